import pytest
import torch

from interp.activations.harvest import harvest_batch
from interp.errors import ConfigError
from saes.evaluation import evaluate
from saes.null_arms import (
    ShuffledTokens,
    matched_random_sae,
    permute_decoder,
    trained_arms,
    untrained_arms,
    with_null_arms,
)
from saes.training import TrainConfig
from tests.families import tiny_model
from tests.specimens import HOOK, perfect_sae, random_sae, tiny_stream
from tests.wirings import random_crosscoder


@pytest.fixture
def x():
    return torch.randn(300, 16) * torch.linspace(0.2, 2, 16) + 1


def test_trained_arms_differ_in_one_thing_each(tmp_path):
    config = TrainConfig(hook=HOOK, out=tmp_path / "run")
    arms = trained_arms(config, model_seed=7)
    assert arms["frozen_decoder"] == config.model_copy(
        update={"freeze_decoder": True, "out": tmp_path / "run" / "null_arms" / "frozen_decoder"}
    )
    assert arms["random_model"] == config.model_copy(
        update={"randomise_model": 7, "out": tmp_path / "run" / "null_arms" / "random_model"}
    )


def test_trained_arms_of_a_warm_started_run_begin_with_nothing_learned(tmp_path):
    config = TrainConfig(hook=HOOK, out=tmp_path / "run", warm_start=tmp_path / "other")
    assert all(arm.warm_start is None for arm in trained_arms(config).values())


def test_matched_random_features_of_several_hooks_are_refused(x):
    with pytest.raises(ConfigError, match="one hook"):
        matched_random_sae(random_crosscoder(), torch.cat([x, x], dim=1), seed=0)


def test_a_permuted_decoder_keeps_the_codes_and_moves_every_row(x):
    sae = random_sae("matryoshka", decoder_norm="free")
    other = permute_decoder(sae, seed=0)
    assert torch.equal(other.encode(x).features, sae.encode(x).features)
    rows, originals = other.W_dec, sae.folded().W_dec
    assert {tuple(row) for row in rows.tolist()} == {tuple(row) for row in originals.tolist()}
    assert (rows != originals).any(dim=1).all()


@pytest.mark.parametrize("architecture", ["topk", "batch_topk", "standard"])
def test_matched_random_features_fire_as_often_and_as_strongly(x, architecture):
    sae = random_sae(architecture, decoder_norm="free")
    random = matched_random_sae(sae, x, seed=0)
    wanted, got = sae.folded().encode(x).dense(), random.encode(x).dense()
    assert torch.equal((got > 0).sum(0), (wanted > 0).sum(0))
    torch.testing.assert_close(got.sum(0), wanted.sum(0), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(random.W_dec.norm(dim=1), sae.folded().W_dec.norm(dim=1))
    cosine = torch.nn.functional.cosine_similarity(random.W_enc, sae.W_enc)
    assert float(cosine.detach().abs().mean()) < 0.4


def test_an_sae_that_learned_something_beats_its_null_arms(tmp_path):
    model = tiny_model("llama")
    stream = tiny_stream(tmp_path, model)
    sae = perfect_sae()
    sample = torch.cat([harvest_batch(model, batch, (HOOK,)).acts[HOOK] for batch in stream.iter_pass()])
    arms = untrained_arms(sae, sample, seed=0)
    own, *others = (evaluate(model, each, stream, n_tokens=10**6) for each in (sae, *arms.values()))
    told = with_null_arms(own, dict(zip(arms, others, strict=True))).null_arms
    assert set(told) == {"permuted_decoder", "matched_random"}
    assert all(arm.explained_variance < 0.5 < own.explained_variance for arm in told.values())
    # The model is random, so a worse prediction may be a luckier one: compare with its own, not with the text.
    assert all(arm.kl > 0.01 > own.ce.kl for arm in told.values())


def test_shuffled_tokens_are_the_same_words_in_another_order(tmp_path):
    stream = tiny_stream(tmp_path, tiny_model("llama"))
    shuffled = ShuffledTokens(stream, seed=1)
    pairs = []
    for (here, batch), (there, other) in zip(stream.iter_from({}), shuffled.iter_from({}), strict=False):
        if here["epoch"] > 0:
            break
        pairs.append((batch, other))
        assert here == there
        assert torch.equal(other.token_ids[~batch.keep], batch.token_ids[~batch.keep])
        for row, mixed, keep in zip(batch.token_ids, other.token_ids, batch.keep, strict=True):
            assert mixed[keep].sort().values.tolist() == row[keep].sort().values.tolist()
    assert any(not torch.equal(batch.token_ids, other.token_ids) for batch, other in pairs)
    again = next(shuffled.iter_from({}))[1]
    assert torch.equal(again.token_ids, pairs[0][1].token_ids)
    assert shuffled.facts["shuffled_tokens_seed"] == 1


def test_tied_contexts_do_not_make_matched_random_features_explode():
    from saes.null_arms import _match

    projections = torch.tensor([[2.0, 1.0], [2.0, 0.5], [0.0, 0.0], [-1.0, -1.0]])
    gain, shift = _match(projections, torch.tensor([1, 1]), torch.tensor([3.0, 3.0]))
    assert gain.max() < 1e5
    fired = (gain * (projections - shift)).relu()
    assert fired[:, 1].sum() == pytest.approx(3.0)
