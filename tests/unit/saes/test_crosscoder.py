"""Crosscoders: a scale for each hook, a penalty by parts, shares, folding and saving."""

import pytest
import torch

from saes import SAEConfig, create_sae, initialise, load_sae, save_sae
from saes.config import ARCHITECTURE_NAMES
from saes.crosscoder import Crosscoding, hook_shares
from tests.steps import D_IN, D_OUT, batch_of, disturb, new_sae, optimiser_of, planted, step

HOOKS_IN = ("h", "y")


def stacked(x):
    return batch_of(x).stacked(HOOKS_IN)


def built(architecture, **config):
    sae = disturb(new_sae(architecture, "crosscoder", **config))
    if architecture in ("batch_topk", "matryoshka"):
        sae.threshold.fill_(0.8)
    return sae


def test_each_hook_is_scaled_by_its_own_spread():
    sample = stacked(planted(2000))
    sample[:, D_IN:] *= 100
    sae = create_sae(SAEConfig(d_sae=8, k=2), D_IN + D_OUT, hooks_in=HOOKS_IN, hook_widths=(D_IN, D_OUT))
    initialise(sae, sample, seed=0)
    scaled = sae.centred(sample)
    for part, width in zip(scaled.split((D_IN, D_OUT), 1), (D_IN, D_OUT), strict=True):
        assert float(part.norm(dim=1).mean()) == pytest.approx(width**0.5, rel=1e-5)
    assert sae.input_scale[:D_IN].unique().numel() == sae.input_scale[D_IN:].unique().numel() == 1


@pytest.mark.parametrize("architecture", ["topk", "standard", "gated", "jumprelu"])
def test_of_one_hook_it_is_the_plain_sae(architecture):
    plain, x = disturb(new_sae(architecture)), planted(300)
    one = disturb(new_sae(architecture))
    one.wiring = Crosscoding(one, (D_IN,))
    one.input_scale.fill_(float(plain.input_scale))
    ours, theirs = one.losses(batch_of(x)).loss, plain.losses(batch_of(x)).loss
    torch.testing.assert_close(ours, theirs)
    for sae, loss in ((one, ours), (plain, theirs)):
        loss.backward()
        # A row's norm is counted, which only its projected gradient leaves alone.
        sae.project_gradients()
    for name, parameter in one.named_parameters():
        twin = plain.get_parameter(name).grad
        torch.testing.assert_close(parameter.grad, twin, rtol=1e-4, atol=1e-4 * float(twin.abs().max()))
    torch.testing.assert_close(one.decode(one.encode(x)), plain.decode(plain.encode(x)))
    assert torch.equal(hook_shares(one), torch.ones(48, 1))


def _by_hand(architecture):
    """Two features, two hooks of widths 2 and 1: one has parts of norms 0.6 and 0.8, the other one part alone."""
    config = SAEConfig(architecture=architecture, d_sae=2, k=2, l1_coefficient=0.5)
    sae = create_sae(config, 3, hooks_in=HOOKS_IN, hook_widths=(2, 1))
    with torch.no_grad():
        sae.W_dec.copy_(torch.tensor([[0.0, 0.6, 0.8], [1.0, 0.0, 0.0]]))
        sae.W_enc.copy_(torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]))
    return sae


HAND = torch.tensor([[3.0, 0.0, 2.0], [0.0, 0.0, 1.0]])


@pytest.mark.parametrize(
    ("architecture", "penalty"),
    # Activations 2 and 1 of the first feature, each counted 0.6 + 0.8 times; 3 of the second, counted once; two tokens.
    [("standard", (1.4 * 3 + 3) / 2), ("gated", (1.4 * 3 + 3) / 2), ("jumprelu", (1.4 * 2 + 1) / 2)],
)
def test_the_penalty_counts_the_norms_of_parts(architecture, penalty):
    sae, batch = _by_hand(architecture), batch_of(torch.zeros(2, 2))
    batch.acts["h"], batch.acts["y"] = HAND[:, :2], HAND[:, 2:]
    report = sae.losses(batch)
    assert float(report.terms["penalty"]) == pytest.approx(penalty)
    assert float(report.terms["penalty_weight"]) == 0.5


def test_shares_of_hooks_by_hand():
    torch.testing.assert_close(hook_shares(_by_hand("topk")), torch.tensor([[3 / 7, 4 / 7], [1.0, 0.0]]))


@pytest.mark.parametrize("norm", ["unit", "free"])
@pytest.mark.parametrize("architecture", ARCHITECTURE_NAMES)
def test_decoding_is_in_raw_units_and_saving_keeps_it_bit_for_bit(architecture, norm, tmp_path):
    sae, x = built(architecture, decoder_norm=norm), stacked(planted(100, seed=2))
    code = sae.encode(x)
    directions, bias = sae.directions(torch.arange(48)), sae.b_dec / sae.input_scale
    torch.testing.assert_close(sae.decode(code), code.dense() @ directions + bias, rtol=1e-4, atol=1e-5)
    save_sae(tmp_path / "sae", sae, {})
    assert not (tmp_path / "sae" / "cfg.json").exists()
    folded, back = sae.folded(), load_sae(tmp_path / "sae")
    assert isinstance(back.wiring, Crosscoding)
    assert (back.hooks_in, back.wiring.widths) == (HOOKS_IN, (D_IN, D_OUT))
    ours, theirs = folded.encode(x), back.encode(x)
    assert torch.equal(ours.features, theirs.features)
    assert torch.equal(ours.values, theirs.values)
    assert torch.equal(folded.decode(ours), back.decode(theirs))
    assert torch.equal(code.features, theirs.features)
    torch.testing.assert_close(sae.decode(code), back.decode(theirs), rtol=1e-4, atol=1e-5)
    save_sae(tmp_path / "again", back, {})
    for path in (tmp_path / "sae").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


@pytest.mark.parametrize("architecture", ["topk", "batch_topk", "jumprelu"])
def test_it_learns_to_give_both_hooks_back(architecture):
    sae = new_sae(architecture, "crosscoder", k=6, d_sae=64, token_budget=300 * 256)
    optimiser = optimiser_of(sae)
    for i in range(300):
        step(sae, optimiser, batch_of(planted(256, seed=i)), lr=1e-2)
    x = stacked(planted(1000, seed=1000))
    left = x - sae.decode(sae.encode(x)).detach()
    for columns in (slice(0, D_IN), slice(D_IN, None)):
        part = x[:, columns]
        assert float(left[:, columns].square().sum()) < 0.3 * float((part - part.mean(0)).square().sum())
