"""The toy of nested features, end to end on a few steps, and the parts it stands on."""

import json
import math

import pytest
import torch

from interp.code import ActivationBatch
from interp.errors import ConfigError
from interp.studies.matryoshka_toy import METRICS, collect, run_toy, set_threshold
from interp.studies.toy_training import ARMS, AverageKSAE, ToyConfig, reorder, train_arm
from saes.architectures import create_sae
from saes.config import SAEConfig
from saes.initialise import initialise
from saes.synthetic import HOOK, toy_tree

SMALL = ToyConfig(steps=100, seeds=2, eval_tokens=3000, workers=1)


@pytest.fixture(scope="module")
def study():
    return collect(SMALL, run_toy(SMALL))


def _batch(n=50):
    x = toy_tree(0).activations(toy_tree(0).sample(n, torch.Generator().manual_seed(4)))
    zeros = torch.zeros(n, dtype=torch.int64)
    return ActivationBatch({HOOK: x}, zeros, zeros, zeros)


def _started(sae):
    initialise(sae, _batch().acts[HOOK], seed=1, normalise=False)
    return sae


def test_every_arm_and_seed_is_scored_with_finite_numbers(study):
    for l0, summary in ((l0, study.summary(l0)) for l0 in SMALL.eval_l0):
        assert set(summary) == set(ARMS)
        for metrics in summary.values():
            assert set(metrics) == set(METRICS)
            assert all(len(figures["seeds"]) == 2 for figures in metrics.values()), l0
            assert all(math.isfinite(value) for figures in metrics.values() for value in figures["seeds"])
    assert json.loads(json.dumps(study.to_json(), allow_nan=False))["study"] == "matryoshka-toy"


def test_shares_lie_between_zero_and_one(study):
    for run in study.runs:
        for group in (run.parents, run.children, run.others):
            assert 0 <= group.precision <= 1
            assert 0 <= group.recall <= 1
            # Of each feature F1 is the harmonic mean, which is at most the arithmetic one.
            assert 0 <= group.f1 <= (group.precision + group.recall) / 2 + 1e-9
            assert -1 <= group.cosine <= 1 + 1e-6


def test_no_arm_is_scored_above_the_l0_asked_for(study):
    for run in study.runs:
        # Scored on 3,000 other tokens than the threshold was set on.
        assert run.l0 < run.eval_l0 + 0.15
        if run.l0_positive > run.eval_l0 + 0.15:
            assert run.l0 == pytest.approx(run.eval_l0, abs=0.15)


def test_trained_arms_explain_more_than_null_arms_even_after_a_hundred_steps(study):
    def mean(arm):
        return torch.tensor(study.values(arm, "explained_variance", eval_l0=1.12)).mean()

    assert min(mean("batch_topk"), mean("matryoshka")) > max(mean("frozen_decoder"), mean("untrained"))


def test_the_frozen_decoder_stays_as_drawn():
    trained, _ = train_arm(SMALL, "frozen_decoder", 0)
    untrained, _ = train_arm(SMALL, "untrained", 0)
    torch.testing.assert_close(trained.W_dec.detach(), untrained.W_dec.detach())
    assert not torch.allclose(trained.W_enc, untrained.W_enc)


def test_the_same_seed_gives_the_same_weights():
    one, other = (train_arm(SMALL, "matryoshka", 1)[0] for _ in range(2))
    assert torch.equal(one.W_dec, other.W_dec)


@pytest.mark.parametrize(("k", "architecture"), [(1, "batch_topk"), (2, "batch_topk"), (2, "matryoshka")])
def test_a_whole_k_gives_the_library_s_own_loss_and_gradients(k, architecture):
    config = SAEConfig(
        architecture=architecture, d_sae=20, k=k, n_prefixes=4 if architecture == "matryoshka" else 1,
        prefix_sampling="pareto", prefix_seed=3,
    )  # fmt: skip
    library = _started(create_sae(config, 20, hooks_in=(HOOK,)))
    toy = _started(AverageKSAE(config, 20, k=float(k), hooks_in=(HOOK,)))
    losses = [sae.losses(_batch()).loss for sae in (library, toy)]
    for loss in losses:
        loss.backward()
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(library.W_enc.grad, toy.W_enc.grad)
    torch.testing.assert_close(library.W_dec.grad, toy.W_dec.grad)


def test_a_broken_k_keeps_the_nearest_whole_number_in_the_batch():
    toy = _started(AverageKSAE(SAEConfig(d_sae=20, k=1, n_prefixes=1), 20, k=1.2338, hooks_in=(HOOK,)))
    assert toy.losses(_batch(50)).code.values.shape[0] == round(1.2338 * 50)


def test_the_threshold_gives_the_l0_asked_for_and_is_zero_where_that_cannot_be_reached():
    sae = _started(create_sae(SAEConfig(architecture="standard", d_sae=20, n_prefixes=1), 20, hooks_in=(HOOK,)))
    x = torch.randn(500, 20)
    positive = set_threshold(sae, x, 2.5)
    assert sae.encode(x).l0() == pytest.approx(2.5)
    assert positive > 2.5
    assert set_threshold(sae, x, 19.0) == pytest.approx(positive)
    assert float(sae.threshold) == 0
    assert sae.encode(x).l0() == pytest.approx(positive)


def test_reordering_changes_no_reconstruction_and_moves_the_optimiser_along():
    sae = _started(create_sae(SAEConfig(architecture="batch_topk", d_sae=20, k=2, n_prefixes=1), 20, hooks_in=(HOOK,)))
    optimiser = torch.optim.Adam(sae.parameters(), lr=1e-2)
    sae.losses(_batch()).loss.backward()
    optimiser.step()
    x = torch.randn(30, 20)
    before, moment = sae.decode(sae.encode(x)), optimiser.state[sae.W_enc]["exp_avg"].clone()
    order = torch.randperm(20)
    reorder(sae, optimiser, order)
    torch.testing.assert_close(sae.decode(sae.encode(x)), before)
    assert torch.equal(optimiser.state[sae.W_enc]["exp_avg"], moment[order])


def test_an_l0_that_is_not_positive_is_refused():
    with pytest.raises(ConfigError, match="eval_l0: got"):
        ToyConfig(eval_l0=())


@pytest.mark.slow
def test_matryoshka_keeps_parents_that_plain_saes_absorb():
    config = ToyConfig(steps=4000, seeds=2, eval_tokens=30_000)
    study = collect(config, run_toy(config))

    def recalls(arm):
        return study.values(arm, "parents.recall_with_child", eval_l0=0.85)

    assert min(recalls("matryoshka")) > 0.8
    assert max(recalls("l1")) < 0.4
    assert max(recalls("batch_topk")) < min(recalls("matryoshka"))
