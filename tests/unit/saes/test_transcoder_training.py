"""Transcoders in training: the loss at another hook, folding, saving, and what they learn."""

import pytest
import torch

import saes.base
from interp.code import ActivationBatch
from interp.errors import ConfigError, DataError
from saes import SAEConfig, create_sae, initialise, load_sae, save_sae
from saes.transcoder import Transcoder
from tests.steps import D_IN, D_OUT, HOOKS, batch_of, disturb, new_sae, optimiser_of, output_of, planted, step

ARCHITECTURES = ("topk", "batch_topk", "matryoshka", "standard", "jumprelu")
WIRINGS = ("transcoder", "skip")
X = planted(200, dtype=torch.float64)


def build(architecture, wiring, **config):
    settings = {"aux_coefficient": 0.0, "l1_coefficient": 0.4, **config}
    sae = disturb(new_sae(architecture, wiring, dtype=torch.float64, **settings))
    if architecture in ("batch_topk", "matryoshka"):
        sae.threshold.fill_(0.8)
    if wiring == "skip":
        with torch.no_grad():
            sae.wiring.W_skip.normal_(0, 0.1)
    return sae


def parameters(sae):
    names = ["W_enc", "W_dec", "b_enc", "b_dec"]
    return [getattr(sae, name) for name in names] + ([] if sae.wiring.W_skip is None else [sae.wiring.W_skip])


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("architecture", ["topk", "standard"])
def test_loss_and_gradients_equal_the_formula(architecture, wiring, dense, monkeypatch):
    monkeypatch.setattr(saes.base, "dense_pays", lambda *_: dense)
    sae = build(architecture, wiring)
    centred = X * sae.input_scale - sae.wiring.b_in
    acts = (centred @ sae.W_enc.t() + sae.b_enc).relu()
    if architecture == "topk":
        top = acts.topk(4, dim=1)
        acts = torch.zeros_like(acts).scatter(1, top.indices, top.values)
    written = acts @ sae.W_dec + sae.b_dec
    if wiring == "skip":
        written = written + centred @ sae.wiring.W_skip.t()
    twin = (output_of(X) * sae.wiring.scale_out - written).square().sum(1).mean()
    if architecture == "standard":
        twin = twin + sae.penalty_weight(len(X)) * acts.sum(1).mean()
    loss = sae.losses(batch_of(X)).loss
    torch.testing.assert_close(loss, twin, rtol=1e-12, atol=0)
    for ours, theirs in zip(*(torch.autograd.grad(each, parameters(sae)) for each in (loss, twin)), strict=True):
        assert theirs.abs().max() > 0
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12 * float(theirs.abs().max()))


@pytest.mark.parametrize("wiring", WIRINGS)
def test_explained_variance_is_that_of_the_output(wiring):
    sae = build("topk", wiring)
    report, y = sae.losses(batch_of(X)), output_of(X) * sae.wiring.scale_out
    expected = 1 - report.terms["mse"] / (y - y.mean(0)).square().sum(1).mean()
    torch.testing.assert_close(report.terms["explained_variance"], expected)


@pytest.mark.parametrize("norm", ["unit", "free"])
@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_folding_changes_nothing_but_units(architecture, wiring, norm):
    sae = build(architecture, wiring, decoder_norm=norm)
    folded = sae.folded()
    assert isinstance(folded, Transcoder)
    assert (folded.d_in, folded.d_out, float(folded.input_scale)) == (D_IN, D_OUT, 1.0)
    assert abs(float(sae.input_scale / sae.wiring.scale_out) - 1) > 0.1
    code, other = sae.encode(X), folded.encode(X)
    assert 0 < code.values.numel() < X.shape[0] * sae.d_sae
    assert torch.equal(code.features, other.features)
    torch.testing.assert_close(code.values, other.values)
    if wiring == "transcoder":
        torch.testing.assert_close(sae.decode(code), folded.decode(other))
        torch.testing.assert_close(sae.directions(torch.arange(48)), folded.directions(torch.arange(48)))
    if architecture in ("topk", "standard", "jumprelu"):
        # At inference they do as in training, so that the reconstruction error is that of the step.
        error = (output_of(X) - folded.decode(other)).square().sum(1).mean() * sae.wiring.scale_out**2
        torch.testing.assert_close(sae.losses(batch_of(X)).terms["mse"], error.detach())


@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_was_saved_comes_back_bit_for_bit(architecture, wiring, tmp_path):
    sae = disturb(new_sae(architecture, wiring))
    if sae.threshold.ndim == 0 and architecture != "topk" and architecture != "standard":
        sae.threshold.fill_(0.8)
    save_sae(tmp_path / "sae", sae, {})
    # Only what SAELens has no kind for is in a layout of our own.
    assert (tmp_path / "sae" / "cfg.json").exists() == (architecture != "topk")
    folded, back = sae.folded(), load_sae(tmp_path / "sae")
    assert (back.hooks_in, back.hooks_out) == (("h",), ("y",))
    x = planted(50, seed=4)
    code, other = folded.encode(x), back.encode(x)
    assert torch.equal(code.features, other.features)
    assert torch.equal(code.values, other.values)
    assert torch.equal(folded.decode(code), back.decode(other))
    save_sae(tmp_path / "again", back, {})
    for path in (tmp_path / "sae").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_a_linear_image_is_learned():
    torch.manual_seed(0)
    mix, x = torch.randn(D_IN, D_OUT), planted(4096)
    config = SAEConfig(architecture="topk", d_sae=64, k=6)
    sae = create_sae(config, D_IN, token_budget=200 * 512, **HOOKS["transcoder"])
    initialise(sae, x, seed=0, output=x @ mix + 2)
    optimiser = optimiser_of(sae)
    for i in range(200):
        part = x[torch.randperm(4096, generator=torch.Generator().manual_seed(i))[:512]]
        zeros = torch.zeros(512, dtype=torch.int64)
        report = step(sae, optimiser, ActivationBatch({"h": part, "y": part @ mix + 2}, zeros, zeros, zeros))
    assert float(report.terms["explained_variance"]) > 0.9
    fresh = planted(1000, seed=9)
    y, folded = fresh @ mix + 2, sae.folded()
    left = (y - folded.decode(folded.encode(fresh)).detach()).square().sum() / (y - y.mean(0)).square().sum()
    assert float(left) < 0.1


def test_a_skip_connection_learns_what_is_linear():
    torch.manual_seed(0)
    x = planted(1024)
    sae = new_sae("topk", "skip", k=1, d_sae=2)
    optimiser, mix = optimiser_of(sae), torch.randn(D_IN, D_OUT)
    zeros = torch.zeros(1024, dtype=torch.int64)
    y = (x - x.mean(0)) @ mix / sae.wiring.scale_out + sae.b_dec.detach() / sae.wiring.scale_out
    batch = ActivationBatch({"h": x, "y": y}, zeros, zeros, zeros)
    losses = [float(step(sae, optimiser, batch, lr=0.02).terms["mse"]) for _ in range(300)]
    assert losses[-1] < 0.05 * losses[0]


def test_a_skip_transcoder_in_training_says_why_it_does_not_decode():
    sae = new_sae("topk", "skip")
    with pytest.raises(ConfigError, match="folded"):
        sae.decode(sae.encode(planted(5)))


def test_a_transcoder_needs_its_outputs_sample_and_no_gate():
    sae = create_sae(SAEConfig(architecture="topk", d_sae=8, k=2), D_IN, **HOOKS["transcoder"])
    with pytest.raises(DataError, match="output"):
        initialise(sae, planted(20), seed=0)
    with pytest.raises(ConfigError, match="gated"):
        create_sae(SAEConfig(architecture="gated", d_sae=8), D_IN, **HOOKS["transcoder"])
