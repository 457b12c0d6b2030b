"""Adam with a faster group for thresholds, and Muon beside Adam: updates and checkpoints."""

import pytest
import torch

from interp.checkpoints import load_checkpoint, restore_state, save_checkpoint, take_state
from saes.optimiser import THRESHOLD_LR_SCALE, MuonWithAdam, make_optimiser
from tests.steps import batch_of, disturb, new_sae, planted, step

LR = 2e-3


class Numbered:
    n = 0

    def __next__(self):
        self.n += 1
        return batch_of(planted(64, seed=self.n))

    def cursor(self):
        return {"n": self.n}

    def seek(self, cursor):
        self.n = cursor["n"]


def with_gradients(architecture="gated", wiring="plain"):
    sae = disturb(new_sae(architecture, wiring))
    sae.losses(batch_of(planted(200))).loss.backward()
    return sae


@pytest.mark.parametrize("wiring", ["plain", "skip"])
def test_muon_moves_matrices_as_torchs_muon_and_the_rest_as_torchs_adam(wiring):
    architecture = "gated" if wiring == "plain" else "standard"
    sae, twin = with_gradients(architecture, wiring), with_gradients(architecture, wiring)
    matrices = [p for p in twin.parameters() if p.ndim == 2]
    others = [p for p in twin.parameters() if p.ndim != 2]
    assert len(matrices) == (3 if wiring == "skip" else 2)
    muon = torch.optim.Muon(matrices, lr=LR, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    adam = torch.optim.Adam(others, lr=LR, betas=(0.9, 0.999), fused=True)
    ours, before = make_optimiser(sae, LR, "muon"), [p.detach().clone() for p in sae.parameters()]
    for _ in range(2):
        for each in (ours, muon, adam):
            each.step()
    for then, one, other in zip(before, sae.parameters(), twin.parameters(), strict=True):
        assert not torch.equal(then, one)
        assert torch.equal(one, other)


@pytest.mark.parametrize("kind", ["adam", "muon"])
def test_thresholds_learn_faster(kind):
    sae = with_gradients("jumprelu")
    optimiser, before = make_optimiser(sae, LR, kind), {n: p.detach().clone() for n, p in sae.named_parameters()}
    for group in optimiser.param_groups:
        group["lr"] = LR * group.get("lr_scale", 1.0)
    optimiser.step()
    # Adam's first step is the learning rate, whatever the gradient.
    moved = {name: float((p.detach() - before[name]).abs().max()) for name, p in sae.named_parameters()}
    assert moved["threshold"] == pytest.approx(LR * THRESHOLD_LR_SCALE, rel=1e-3)
    assert moved["b_enc"] == pytest.approx(LR, rel=1e-3)


@pytest.mark.parametrize("kind", ["adam", "muon"])
def test_a_frozen_decoder_is_in_no_group(kind):
    sae = new_sae("standard")
    sae.W_dec.requires_grad_(False)
    optimiser = make_optimiser(sae, LR, kind)
    held = [p for group in optimiser.param_groups for p in group["params"]]
    assert len(held) == len(set(held)) == 3
    assert all(p is not sae.W_dec for p in held)
    step(sae, optimiser, batch_of(planted(64)))


@pytest.mark.parametrize("kind", ["adam", "muon"])
@pytest.mark.parametrize("architecture", ["jumprelu", "gated", "topk"])
def test_a_checkpoint_goes_on_to_the_same_bytes(architecture, kind, tmp_path):
    def fresh():
        sae = new_sae(architecture)
        return sae, make_optimiser(sae, LR, kind), Numbered()

    sae, optimiser, batches = fresh()
    for i in range(8):
        if i == 4:
            state = take_state(sae, optimiser, batches, step=4, n_tokens=256, metrics_offset=0)
            save_checkpoint(tmp_path, state)
        step(sae, optimiser, next(batches), lr=LR * (i + 1))
    other, its_optimiser, its_batches = fresh()
    restore_state(load_checkpoint(tmp_path / "step_4"), other, its_optimiser, its_batches)
    again = take_state(other, its_optimiser, its_batches, step=4, n_tokens=256, metrics_offset=0)
    assert save_checkpoint(tmp_path / "again", again).joinpath("state.safetensors").read_bytes() == (
        (tmp_path / "step_4" / "state.safetensors").read_bytes()
    )
    for i in range(4, 8):
        step(other, its_optimiser, next(its_batches), lr=LR * (i + 1))
    for name, tensor in sae.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
    for one, two in zip(sae.parameters(), other.parameters(), strict=True):
        states = [o.state[p] for o, p in ((optimiser, one), (its_optimiser, two))]
        assert states[0].keys() == states[1].keys()
        assert all(torch.equal(states[0][slot], states[1][slot]) for slot in states[0])


def test_what_was_loaded_is_what_both_inside_go_on_with():
    sae = with_gradients()
    optimiser = make_optimiser(sae, LR, "muon")
    assert isinstance(optimiser, MuonWithAdam)
    optimiser.step()
    optimiser.load_state_dict(optimiser.state_dict())
    before = {name: p.detach().clone() for name, p in sae.named_parameters()}
    for group in optimiser.param_groups:
        group["lr"] = 0.0
    optimiser.step()
    # The groups that a schedule sets are those that the two inside read.
    assert all(torch.equal(before[name], p) for name, p in sae.named_parameters())
