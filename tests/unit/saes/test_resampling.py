"""Dead features start anew, at set moments, from what the dictionary reconstructs badly."""

import pytest
import torch

from interp.checkpoints import restore_state, take_state
from interp.errors import ConfigError
from saes.resampling import due, resample
from tests.steps import batch_of, disturb, new_sae, optimiser_of, planted, step

BUDGET, BATCH = 4096, 128
DEAD = (3, 10, 31)


def dying(architecture="standard", wiring="plain", **config):
    """After some steps, with three features dead and the optimiser's moments set."""
    sae = disturb(new_sae(architecture, wiring, token_budget=BUDGET, dead_features="resample", **config))
    optimiser = optimiser_of(sae)
    for i in range(3):
        step(sae, optimiser, batch_of(planted(BATCH, seed=i)))
    with torch.no_grad():
        sae.b_enc[list(DEAD)] = -50.0
    sae.tokens_since_fired.zero_()
    sae.tokens_since_fired[list(DEAD)] = sae.dead_after_tokens
    return sae, optimiser, batch_of(planted(BATCH, seed=50))


def test_it_is_due_at_the_configured_shares_only():
    sae = new_sae("standard", token_budget=BUDGET, resample_at=(0.125, 0.3, 0.5))
    moments = []
    for n in range(1, BUDGET // BATCH + 1):
        sae.n_updates.fill_(n)
        if due(sae, BATCH):
            moments.append(n)
    # Of 32 steps: an eighth, the first after three tenths, a half.
    assert moments == [4, 10, 16]
    sae.token_budget = None
    assert not due(sae, BATCH)


@pytest.mark.parametrize("architecture", ["standard", "gated"])
def test_training_resamples_at_those_steps_and_at_no_others(architecture, monkeypatch):
    import saes.base

    happened = []
    monkeypatch.setattr(saes.base, "resample", lambda sae, *_: happened.append(int(sae.n_updates)))
    sae = new_sae(architecture, token_budget=BUDGET)
    optimiser = optimiser_of(sae)
    for i in range(32):
        step(sae, optimiser, batch_of(planted(BATCH, seed=i)))
    assert happened == [4, 8, 12, 16]


@pytest.mark.parametrize("architecture", ["topk", "jumprelu", "matryoshka"])
def test_where_auxk_revives_nothing_is_resampled(architecture, monkeypatch):
    import saes.base

    happened = []
    monkeypatch.setattr(saes.base, "resample", lambda sae, *_: happened.append(int(sae.n_updates)))
    sae = new_sae(architecture, token_budget=BUDGET)
    optimiser = optimiser_of(sae)
    for i in range(5):
        step(sae, optimiser, batch_of(planted(BATCH, seed=i)))
    assert happened == []


@pytest.mark.parametrize("architecture", ["standard", "gated", "jumprelu"])
def test_the_dead_point_at_residuals_and_the_living_are_left_alone(architecture):
    sae, optimiser, batch = dying(architecture)
    residual = torch.nn.functional.normalize(sae.residual(batch), dim=1)
    before = {name: value.detach().clone() for name, value in sae.named_parameters()}
    moments = {p: {k: v.clone() for k, v in s.items()} for p, s in optimiser.state.items()}
    assert resample(sae, batch, optimiser) == 3
    dead = torch.tensor(DEAD)
    living = torch.ones(48, dtype=torch.bool).index_fill(0, dead, False)
    # Each decoder row is one token's residual, of no token twice.
    cosines = sae.W_dec[dead].detach() @ residual.t()
    torch.testing.assert_close(cosines.max(1).values, torch.ones(3))
    assert cosines.argmax(1).unique().numel() == 3
    norm = 0.2 * before["W_enc"][living].norm(dim=1).mean()
    torch.testing.assert_close(sae.W_enc[dead].norm(dim=1), norm.expand(3))
    torch.testing.assert_close(sae.W_enc[dead] / norm, sae.W_dec[dead])
    assert sae.tokens_since_fired[dead].tolist() == [0, 0, 0]
    for name, value in sae.named_parameters():
        if name not in sae.sparse_parameters:
            assert torch.equal(value, before[name]), name
            continue
        assert torch.equal(value[living], before[name][living]), name
        if value.ndim == 1:
            expected = float(before[name][living].mean()) if name == "threshold" else 0.0
            assert value[dead].tolist() == pytest.approx([expected] * 3, rel=1e-5)
        for slot in ("exp_avg", "exp_avg_sq"):
            now, then = optimiser.state[value][slot], moments[value][slot]
            assert float(now[dead].abs().max()) == 0
            assert torch.equal(now[living], then[living])
            assert float(then[dead].abs().max()) > 0


def test_a_resampled_feature_fires_for_its_token():
    sae, optimiser, batch = dying()
    resample(sae, batch, optimiser)
    fired = torch.bincount(sae.encode(batch.acts["h"]).features, minlength=48)
    assert bool((fired[list(DEAD)] > 0).all())


def test_a_transcoder_reads_a_token_and_writes_its_residual():
    sae, optimiser, batch = dying("standard", "transcoder")
    residual, centred = sae.residual(batch), sae.centred(batch.acts["h"])
    resample(sae, batch, optimiser)
    unit, dead = torch.nn.functional.normalize, list(DEAD)
    token = (sae.W_dec[dead].detach() @ unit(residual, dim=1).t()).argmax(1)
    torch.testing.assert_close(sae.W_dec[dead].detach(), unit(residual[token], dim=1))
    torch.testing.assert_close(unit(sae.W_enc[dead].detach(), dim=1), unit(centred[token], dim=1))


def test_more_dead_features_than_tokens_wait():
    sae, optimiser, batch = dying()
    few = batch.take(slice(0, 2))
    norm = 0.2 * sae.W_enc[[i for i in range(48) if i not in DEAD]].norm(dim=1).mean()
    assert resample(sae, few, optimiser) == 2
    assert (sae.tokens_since_fired >= sae.dead_after_tokens).nonzero()[:, 0].tolist() == [31]
    # A feature that waits is no living one.
    torch.testing.assert_close(sae.W_enc[list(DEAD[:2])].norm(dim=1), norm.expand(2))


def test_it_is_a_function_of_seed_and_step():
    rows = []
    for seed, n_updates in ((0, 7), (0, 7), (1, 7), (0, 8)):
        sae, optimiser, batch = dying(resample_seed=seed)
        sae.n_updates.fill_(n_updates)
        resample(sae, batch, optimiser)
        rows.append(sae.W_dec[list(DEAD)].detach())
    assert torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[0], rows[2])
    assert not torch.equal(rows[0], rows[3])


def test_a_frozen_decoder_keeps_its_rows():
    sae, optimiser, batch = dying()
    sae.W_dec.requires_grad_(False)
    before = sae.W_dec.clone()
    resample(sae, batch, optimiser)
    assert torch.equal(sae.W_dec, before)


def test_all_dead_start_anew():
    sae, optimiser, batch = dying("jumprelu")
    sae.tokens_since_fired.fill_(sae.dead_after_tokens)
    assert resample(sae, batch, optimiser) == 48
    assert all(bool(torch.isfinite(parameter).all()) for parameter in sae.parameters())


def test_a_report_without_its_batch_is_told():
    sae, optimiser, _ = dying()
    with pytest.raises(ConfigError, match="batch"):
        resample(sae, None, optimiser)


class Seeded:
    """Batches by number."""

    def __init__(self):
        self.n = 0

    def __next__(self):
        self.n += 1
        return batch_of(planted(BATCH, seed=self.n))

    def cursor(self):
        return {"n": self.n}

    def seek(self, cursor):
        self.n = cursor["n"]


@pytest.mark.parametrize("kind", ["adam", "muon"])
@pytest.mark.parametrize("architecture", ["standard", "gated"])
@pytest.mark.parametrize("stop", [3, 4, 5])
def test_a_run_stopped_around_a_resampling_goes_on_to_the_same_bytes(architecture, stop, kind):
    """The first of the resampling moments is step 4."""

    def fresh():
        sae = new_sae(architecture, token_budget=BUDGET, dead_share=BATCH / BUDGET, d_sae=128, l1_coefficient=3.0)
        with torch.no_grad():
            sae.b_enc[:5] = -50.0
        return sae, optimiser_of(sae, kind), Seeded()

    sae, optimiser, batches = fresh()
    for i in range(9):
        if i == stop:
            state = take_state(sae, optimiser, batches, step=i, n_tokens=0, metrics_offset=0)
            state = type(state)(
                state.step, 0, *({k: v.clone() for k, v in part.items()} for part in (state.tensors, state.optimiser)),
                state.rng, state.cursor, 0,
            )  # fmt: skip
        dead = int((sae.tokens_since_fired >= sae.dead_after_tokens).sum())
        step(sae, optimiser, next(batches))
        assert i != 3 or dead > 0
    other, its_optimiser, its_batches = fresh()
    restore_state(state, other, its_optimiser, its_batches)
    for _ in range(stop, 9):
        step(other, its_optimiser, next(its_batches))
    for name, tensor in sae.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
