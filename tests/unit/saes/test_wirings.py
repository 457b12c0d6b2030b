"""Transcoders and crosscoders, measured and spliced: what they read is not, or not only, what they write."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch

import saes
from interp.activations.harvest import harvest_batch
from interp.datasets import TokenBatch
from interp.errors import ArtifactError, ConfigError, ShapeError
from interp.hooks import capture
from saes.arm_losses import run_arm, run_clean
from saes.evaluation import Evaluation, evaluate
from saes.facts import SAEFacts
from saes.feature_store import FeatureStore
from saes.features import (
    FeatureSettings,
    collect_features,
    export_parquet,
    load_features,
    save_features,
    write_features,
)
from saes.hook_layout import hook_columns
from saes.logit_effects import logit_effects
from saes.metrics import VarianceSums
from tests.families import KINDS, tiny_model, tiny_tokens
from tests.specimens import constant_sae, perfect_sae, random_sae, tiny_stream
from tests.texts import tiny_texts
from tests.wirings import DEPTHS, MLP_IN, MLP_OUT, SideBySide, crosscoder, random_crosscoder, random_transcoder

EVERYTHING = 10**6


@pytest.fixture(scope="module")
def model():
    return tiny_model("llama")


@pytest.fixture
def stream(tmp_path, model):
    return tiny_stream(tmp_path, model)


def _acts(model, stream, *hooks):
    return torch.cat([harvest_batch(model, batch, hooks).stacked(hooks) for batch in stream.iter_pass()])


def _constant_transcoder(value):
    sae = random_transcoder()
    with torch.no_grad():
        sae.W_enc.zero_()
        sae.b_enc.fill_(-1.0)
        sae.b_dec.copy_(value)
    return sae


def test_a_transcoder_is_scored_on_what_it_writes(model, stream):
    sae = random_transcoder()
    result = evaluate(model, sae, stream, n_tokens=EVERYTHING)
    y, y_hat = _acts(model, stream, MLP_OUT), sae.decode(sae.encode(_acts(model, stream, MLP_IN))).detach()
    assert result.explained_variance == pytest.approx(VarianceSums.of(y, y_hat).explained_variance, rel=1e-5)
    assert (result.hook, result.hooks_in, result.hooks_out) == (MLP_OUT, (MLP_IN,), (MLP_OUT,))
    assert result.hooks == ()
    assert result.l0 == 3.0


def test_a_transcoder_that_gives_the_mean_output_is_the_mean_ablation(model, stream):
    result = evaluate(model, _constant_transcoder(_acts(model, stream, MLP_OUT).mean(0)), stream, n_tokens=EVERYTHING)
    assert result.ce.sae == pytest.approx(result.ce.mean, abs=1e-6)
    assert result.explained_variance == pytest.approx(0.0, abs=1e-6)
    zero = evaluate(model, _constant_transcoder(torch.zeros(16)), stream, n_tokens=EVERYTHING)
    assert zero.ce.sae == zero.ce.zero
    assert zero.ce.zero != zero.ce.clean


def test_a_skip_connection_that_is_the_layer_costs_nothing(tmp_path):
    """Between two names of one tensor the identity is a perfect transcoder."""
    model = tiny_model("gpt2")
    pre, post = "blocks.1.hook_resid_pre", "blocks.0.hook_resid_post"
    sae = random_transcoder(skip=True, hooks=(post, pre), d=(model.d_model, model.d_model))
    with torch.no_grad():
        sae.W_dec.zero_()
        sae.b_dec.zero_()
        sae.W_skip.copy_(torch.eye(model.d_model))
    result = evaluate(model, sae, tiny_stream(tmp_path, model), n_tokens=200)
    assert result.explained_variance == pytest.approx(1.0, abs=1e-9)
    assert result.ce.delta == pytest.approx(0.0, abs=1e-6)


def test_the_hooks_of_a_crosscoder_count_alike_whatever_their_norms(model, stream):
    sae = crosscoder()
    result = evaluate(model, sae, stream, n_tokens=EVERYTHING)
    x = _acts(model, stream, *DEPTHS)
    x_hat = sae.decode(sae.encode(x)).detach()
    # By the definition: every hook scaled to a total variance of one, then all columns together.
    scale = torch.cat(
        [(x[:, part] - x[:, part].mean(0)).square().sum(1).mean().rsqrt().repeat(16) for part in _parts()]
    )
    pooled = VarianceSums.of(x * scale, x_hat * scale).explained_variance
    assert result.explained_variance == pytest.approx(pooled, rel=1e-5)
    each = [VarianceSums.of(x[:, part], x_hat[:, part]).explained_variance for part in _parts()]
    assert [score.explained_variance for score in result.hooks] == pytest.approx(each, rel=1e-5)
    assert [score.hook for score in result.hooks] == list(DEPTHS)
    low, high = result.explained_variance_interval
    assert low < result.explained_variance < high


def _parts():
    return slice(0, 16), slice(16, 32)


def test_each_hook_of_a_crosscoder_costs_what_its_columns_alone_cost(model, stream):
    """Both hooks copied but for one that is set to zero: the zero ablation of that hook, and nothing at the other."""
    half = perfect_sae(32)
    with torch.no_grad():
        half.W_dec[:, 16:] = 0
    result = evaluate(model, SideBySide(half), stream, n_tokens=EVERYTHING)
    first, second = (score.ce for score in result.hooks)
    assert first.delta == pytest.approx(0.0, abs=1e-6)
    assert second.sae == second.zero
    alone = evaluate(model, constant_sae(torch.zeros(16), hook=DEPTHS[1]), stream, n_tokens=EVERYTHING)
    assert second.delta == pytest.approx(alone.ce.delta, rel=1e-6)
    assert second.delta_interval == pytest.approx(alone.ce.delta_interval, rel=1e-5)
    assert result.ce.delta == pytest.approx((first.delta + second.delta) / 2, rel=1e-9)
    assert result.ce.kl == pytest.approx((first.kl + second.kl) / 2, rel=1e-9)


def test_a_crosscoder_of_one_hook_is_an_sae(model, stream):
    sae = random_sae("topk")
    ours, theirs = (evaluate(model, one, stream, n_tokens=300) for one in (SideBySide(sae, sae.hooks_in), sae))
    assert ours == theirs


def test_the_scales_of_a_crosscoder_are_its_own_affair(model, stream):
    sae = random_crosscoder()
    result, x = evaluate(model, sae, stream, n_tokens=EVERYTHING), _acts(model, stream, *DEPTHS)
    x_hat = sae.decode(sae.encode(x)).detach()
    each = [VarianceSums.of(x[:, part], x_hat[:, part]).explained_variance for part in _parts()]
    assert [score.explained_variance for score in result.hooks] == pytest.approx(each, rel=1e-5)


def test_json_brings_every_hook_back_and_evaluations_of_before_still_load(model, stream):
    result = evaluate(model, crosscoder(), stream, n_tokens=150)
    values = json.loads(json.dumps(result.to_json()))
    assert Evaluation.from_json(values) == result
    before = {
        name: value for name, value in values.items() if name not in ("architecture", "hooks_in", "hooks_out", "hooks")
    }
    assert Evaluation.from_json(before).explained_variance == result.explained_variance


def test_an_output_of_another_width_is_told(model, stream):
    with pytest.raises(ShapeError, match="check the hook"):
        evaluate(model, random_transcoder(d=(16, 12)), stream, n_tokens=100)


def _logits(model, token_ids):
    with torch.no_grad():
        return model.hf(token_ids).logits


def _generate(model, token_ids, **more):
    given = {"inputs": token_ids, "attention_mask": torch.ones_like(token_ids)}
    return model.hf.generate(**given, max_new_tokens=6, do_sample=False, pad_token_id=2, eos_token_id=[], **more)


def _transcoder_of(model, **more):
    width = tuple(model.hook(hook).width for hook in (MLP_IN, MLP_OUT))
    return random_transcoder(d=width, **more)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if MLP_IN in tiny_model(kind).hooks])
def test_a_spliced_transcoder_is_the_arm_of_the_evaluation(kind):
    model, tokens = tiny_model(kind), tiny_tokens()
    keep = torch.ones_like(tokens, dtype=torch.bool)
    batch = TokenBatch(tokens, keep, keep.long(), torch.arange(11).expand(3, 11), torch.zeros_like(tokens))
    sae = _transcoder_of(model, skip=True)
    clean = run_clean(model, batch, (MLP_IN, MLP_OUT))
    arm = run_arm(model, clean, {MLP_OUT: sae.decode(sae.encode(clean.acts.acts[MLP_IN])).detach()})
    with saes.splice(model, sae):
        log_probs = _logits(model, tokens)[clean.predicted].log_softmax(-1)
    torch.testing.assert_close(-log_probs.gather(1, clean.targets[:, None])[:, 0], arm.nll)
    assert not torch.allclose(arm.nll, clean.nll, atol=1e-4)


def test_with_its_error_term_a_transcoder_changes_nothing(model):
    tokens = tiny_tokens()
    clean, written = _logits(model, tokens), _generate(model, tokens)
    with saes.splice(model, [random_transcoder(skip=True), random_sae("topk", hook=DEPTHS[0])], error_term=True):
        assert torch.equal(_logits(model, tokens), clean)
        assert torch.equal(_generate(model, tokens), written)


def test_a_transcoder_generates_from_the_cache_what_it_gives_on_the_whole_text(model):
    tokens, sae = tiny_tokens(), random_transcoder()
    told = {"return_dict_in_generate": True, "output_logits": True}
    with saes.splice(model, sae):
        cached = _generate(model, tokens, **told)
        whole = _logits(model, cached.sequences)[:, 10:-1]
    torch.testing.assert_close(torch.stack(cached.logits, 1), whole, rtol=1e-4, atol=1e-4)
    clean = _generate(model, tokens, **told).logits
    assert not torch.allclose(clean[0], cached.logits[0], atol=1e-3)


def test_a_transcoder_reads_what_another_put_there(model):
    """A transcoder of the residual stream that an SAE has set to nine reads nines."""
    nine = constant_sae(torch.full((16,), 9.0), hook=DEPTHS[0])
    sae = random_transcoder(hooks=(DEPTHS[0], MLP_OUT))
    with saes.splice(model, [sae, nine]):
        seen = capture(model, tiny_tokens(), (MLP_OUT,))[MLP_OUT]
    expected = sae.decode(sae.encode(torch.full((1, 16), 9.0)))[0].detach()
    torch.testing.assert_close(seen, expected.expand_as(seen))


def test_an_edit_of_a_transcoder_goes_by_the_hook_that_it_writes(model):
    sae, tokens = random_transcoder(), tiny_tokens()
    with saes.splice(model, sae, edit={MLP_OUT: saes.ablate_features(*range(24))}):
        seen = capture(model, tokens, (MLP_OUT,))[MLP_OUT]
    torch.testing.assert_close(seen, sae.b_dec.detach().expand_as(seen))


def test_what_cannot_be_spliced_is_told(model):
    def fails(error, message, sae):
        with pytest.raises(error, match=message), saes.splice(model, sae):
            _logits(model, tiny_tokens())

    backwards = random_transcoder(hooks=(MLP_OUT, MLP_IN))
    fails(ConfigError, "computes first", backwards)
    fails(ArtifactError, "width 12", random_transcoder(d=(16, 12)))
    fails(ConfigError, "a crosscoder's code needs all", random_crosscoder())
    elsewhere = random_sae("topk", hook=f"other:{MLP_OUT}")
    with pytest.raises(ConfigError, match="another model"), saes.splice(model.beside("other", model), elsewhere):
        pass
    # The second pass must not read what the first one left behind.
    with saes.splice(model, backwards):
        for _ in range(2):
            with pytest.raises(ConfigError, match="computes first"):
                _logits(model, tiny_tokens())


def test_columns_of_hooks_stand_in_their_order(model):
    assert hook_columns(model, DEPTHS) == {DEPTHS[0]: slice(0, 16), DEPTHS[1]: slice(16, 32)}


SETTINGS = FeatureSettings(n_tokens=EVERYTHING, n_top=3, window=5)


def _density(sae, x):
    return (sae.encode(x).dense() > 0).double().mean(0).numpy()


def test_features_of_a_transcoder_fire_on_what_it_reads_and_do_what_it_writes(model, stream):
    sae = random_transcoder(skip=True)
    found = collect_features(model, sae, stream, SETTINGS)
    np.testing.assert_allclose(found.density, _density(sae, _acts(model, stream, MLP_IN)))
    expected = logit_effects(model, MLP_OUT, sae.W_dec.detach())
    np.testing.assert_array_equal(found.raised_tokens, expected.raised_tokens.numpy())
    assert (found.raised_tokens >= 0).all()
    assert found.hook_share is None


def test_features_of_a_crosscoder_fire_on_all_hooks_and_are_told_at_the_last(model, stream, tmp_path):
    sae = random_crosscoder()
    with torch.no_grad():
        sae.W_dec[5, 16:] = 0
    found = write_features(model, sae, stream, tmp_path / "features", SETTINGS)
    np.testing.assert_allclose(found.density, _density(sae, _acts(model, stream, *DEPTHS)))
    last = sae.directions(torch.arange(24)).detach()[:, 16:]
    expected = logit_effects(model, DEPTHS[-1], last)
    np.testing.assert_array_equal(found.raised_tokens, expected.raised_tokens.numpy())
    np.testing.assert_allclose(found.hook_share.sum(1), 1, rtol=1e-6)
    np.testing.assert_array_equal(found.hook_share[5], [1, 0])
    table = pyarrow.parquet.read_table(export_parquet(found, tmp_path)[0])
    assert table["hook_share"].to_pylist()[5] == [1, 0]
    save_features(tmp_path / "again", found)
    np.testing.assert_array_equal(load_features(tmp_path / "again").hook_share, found.hook_share)
    assert FeatureStore.open(tmp_path / "features").provenance["sae"]["hooks_out"] == list(DEPTHS)


@pytest.mark.parametrize("make", [random_transcoder, random_crosscoder])
def test_encoding_reads_all_that_the_dictionary_reads(make, model, tmp_path):
    sae, stream = make(), tiny_stream(tmp_path, model)
    data = {"context_size": 24, "prepend_bos": True, "mask_policy": {"mask_bos": True, "mask_special": True}}
    facts = SAEFacts(sae.hooks_in[0], "topk", (24,), model.facts, data)
    opened = saes.OpenedSAE(Path("runs/x/sae"), model, sae, facts)
    table = saes.encode_texts(opened, tiny_texts(60, longest=20))
    code = sae.encode(_acts(model, stream, *sae.hooks_in)).active()
    assert table.num_rows == code.values.shape[0] > 500
    assert sorted(table["activation"].to_pylist()) == pytest.approx(sorted(code.values.tolist()), rel=1e-4)
