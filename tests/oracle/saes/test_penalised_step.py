"""Standard, gated and JumpReLU steps equal dense twins written from the papers' formulas."""

import pytest
import torch
from torch import Tensor

import saes.base
from interp.code import Code
from saes import SAE
from saes.entries import SparseEntries
from saes.jumprelu import jump, step
from saes.losses import prefix_weights
from saes.ops import dense
from saes.ops.sparse import Pattern
from tests.steps import batch_of, disturb, new_sae, planted

KINDS = {
    "standard": {"architecture": "standard"},
    "gated": {"architecture": "gated"},
    "jumprelu, step": {"architecture": "jumprelu", "bandwidth": 0.5},
    "jumprelu, tanh": {"architecture": "jumprelu", "bandwidth": 0.5, "l0_penalty": "tanh", "l0_tanh_scale": 0.8},
}
NAMES = {
    "standard": ("W_enc", "W_dec", "b_enc", "b_dec"),
    "gated": ("W_enc", "W_dec", "b_enc", "b_dec", "r_mag", "b_mag"),
    "jumprelu": ("W_enc", "W_dec", "b_enc", "b_dec", "threshold"),
}
X = planted(300, dtype=torch.float64)


@pytest.fixture(params=[False, True], ids=["sparse", "dense"])
def path(request, monkeypatch):
    """Either path, whatever the table of costs says at this size."""
    monkeypatch.setattr(saes.base, "dense_pays", lambda *_: request.param)


def build(kind: str, **config: object) -> SAE:
    settings = {"l1_coefficient": 0.7, "aux_coefficient": 0.0, "nest": True, "n_prefixes": 1, **KINDS[kind], **config}
    return disturb(new_sae(dtype=torch.float64, **settings))


def smoothed(pre: Tensor, threshold: Tensor, width: float) -> tuple[Tensor, Tensor]:
    """JumpReLU and step whose gradients in the threshold are equations 11 and 12 of Rajamanoharan et al. 2024b.

    Written as zero-valued additions, so that autograd of plain operations gives them.
    """
    above = ((pre > threshold) & (pre > 0)).to(pre)
    kernel = (((pre - threshold) / width).abs() < 0.5) * (pre > 0)
    moved = threshold - threshold.detach()
    return pre * above - threshold.detach() / width * kernel * moved, above - kernel / width * moved


def twin_losses(sae: SAE, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Reconstruction, weighed penalty and the gate's own reconstruction, all dense."""
    config, scaled = sae.config, x * sae.input_scale
    norm = sae.W_dec.norm(dim=1) if config.decoder_norm == "free" else torch.ones(sae.d_sae, dtype=x.dtype)
    # Activations times decoder norms, by unit rows: what the pre-activations are in either parametrisation.
    shared, rows = ((scaled - sae.b_dec) @ sae.W_enc.t()) * norm, sae.W_dec / norm[:, None]
    pre = shared + sae.b_enc * norm
    extra = x.new_zeros(())
    if config.architecture == "standard":
        acts = counted = pre.relu()
    elif config.architecture == "gated":
        acts = (pre > 0) * (sae.r_mag.exp() * shared + sae.b_mag).relu()
        counted = pre.relu()
        extra = nested_error(sae, scaled - sae.b_dec.detach(), counted, rows.detach())
    else:
        acts, active = smoothed(pre, sae.threshold, config.bandwidth)
        counted = active if config.l0_penalty == "step" else torch.tanh(config.l0_tanh_scale * acts)
    penalty = sae.penalty_weight(len(x)) * counted.sum() / len(x)
    return nested_error(sae, scaled - sae.b_dec, acts, rows), penalty, extra


def nested_error(sae: SAE, target: Tensor, acts: Tensor, rows: Tensor) -> Tensor:
    widths = sae.prefix_widths()
    weights = prefix_weights(sae.config.loss_variant if len(widths) > 1 else "sum", len(widths))
    errors = [(target - acts[:, :n] @ rows[:n]).square().sum(1).mean() for n in (0, *widths)]
    return sum(weight * error for weight, error in zip(weights, errors, strict=True))


def gradients(sae: SAE, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, [getattr(sae, name) for name in NAMES[sae.config.architecture]]))


def assert_same(sae: SAE, loss: Tensor, twin: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(loss, twin, rtol=tolerance, atol=0)
    names = NAMES[sae.config.architecture]
    for name, ours, theirs in zip(names, gradients(sae, loss), gradients(sae, twin), strict=True):
        assert theirs.abs().max() > 0, name
        torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance * float(theirs.abs().max()), msg=name)


@pytest.mark.parametrize("norm", ["unit", "free"])
@pytest.mark.parametrize(("n_prefixes", "variant"), [(1, "sum"), (3, "sum"), (3, "mean_with_bias")])
@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradients_equal_the_formulas(kind, n_prefixes, variant, norm, path):
    sae = build(kind, n_prefixes=n_prefixes, loss_variant=variant, decoder_norm=norm)
    report, twins = sae.losses(batch_of(X)), twin_losses(sae, X)
    assert_same(sae, report.loss, sum(twins))
    told = report.terms["penalty"] * report.terms["penalty_weight"]
    torch.testing.assert_close(told, twins[1].detach(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("n_prefixes", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_the_dense_path_equals_the_sparse_one(kind, n_prefixes, monkeypatch):
    monkeypatch.setattr(saes.base, "dense_pays", lambda *_: False)
    sae = build(kind, n_prefixes=n_prefixes, aux_coefficient=1 / 32, dead_features="aux")
    sae.tokens_since_fired[::5] = 10_000
    sparse = sae.losses(batch_of(X))
    monkeypatch.setattr(saes.base, "dense_pays", lambda *_: True)
    whole = sae.losses(batch_of(X))
    assert_same(sae, whole.loss, sparse.loss)
    assert torch.equal(whole.code.features, sparse.code.active().features)
    assert float(whole.terms["l0"]) == float(sparse.terms["l0"])
    assert sparse.terms["aux"] > 0


@pytest.mark.parametrize("kind", KINDS)
def test_what_fired_is_what_the_formula_lets_through(kind, path):
    sae = build(kind)
    report = sae.losses(batch_of(X))
    code = report.code.active()
    assert float(report.terms["l0"]) == pytest.approx(code.l0(), rel=1e-6)
    inferred = sae.encode(X)
    assert torch.equal(code.features, inferred.features)
    torch.testing.assert_close(code.values / sae.input_scale, inferred.values.detach())


SMOOTH = [(kind, name) for kind in KINDS for name in NAMES[KINDS[kind]["architecture"]] if name != "threshold"]


@pytest.mark.parametrize(("kind", "name"), SMOOTH)
def test_gradients_equal_finite_differences_where_nothing_steps(kind, name, path):
    sae = build(kind, n_prefixes=3, decoder_norm="free")
    parameter: Tensor = getattr(sae, name)

    def loss() -> Tensor:
        report = sae.losses(batch_of(X))
        # The gate's reconstruction is by a decoder that learns nothing from it: no slope of it is the gradient.
        frozen = sae.config.architecture == "gated" and name in ("W_dec", "b_dec")
        return report.loss - (twin_losses(sae, X)[2] if frozen else 0)

    direction = torch.randn_like(parameter)
    (gradient,) = torch.autograd.grad(loss(), [parameter])
    code, values, size = sae.losses(batch_of(X)).code, [], 1e-7
    for sign in (1, -1):
        with torch.no_grad():
            parameter.add_(direction, alpha=sign * size)
            assert torch.equal(sae.losses(batch_of(X)).code.features, code.features)
            values.append(loss())
            parameter.sub_(direction, alpha=sign * size)
    slope = (values[0] - values[1]).detach() / (2 * size)
    torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_one_prefix_is_the_plain_sae_exactly(kind, path):
    plain, nested = build(kind), build(kind, prefixes=(48,), loss_variant="mean")
    ours, theirs = plain.losses(batch_of(X)), nested.losses(batch_of(X))
    assert torch.equal(ours.loss, theirs.loss)
    for one, other in zip(gradients(plain, ours.loss), gradients(nested, theirs.loss), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_each_prefix_is_scored_alone(kind, path):
    sae = build(kind, prefixes=(5, 17, 48))
    report, scaled = sae.losses(batch_of(X)), X * sae.input_scale
    for width in (5, 17, 48):
        error = (scaled - sae.decode(sae.encode(X), prefix=width) * sae.input_scale).square().sum(1).mean()
        torch.testing.assert_close(report.terms[f"loss_prefix_{width}"], error.detach(), rtol=1e-12, atol=0)


def test_the_topk_step_nested_equals_its_formula(path):
    sae = disturb(new_sae("topk", dtype=torch.float64, nest=True, n_prefixes=3, aux_coefficient=0.0))
    scaled = X * sae.input_scale - sae.b_dec
    acts = dense.dense_select_per_token(dense.dense_encode(scaled, sae.W_enc, sae.b_enc), 4)
    twin, loss = nested_error(sae, scaled, acts, sae.W_dec), sae.losses(batch_of(X)).loss
    torch.testing.assert_close(loss, twin, rtol=1e-12, atol=0)
    parameters = [sae.W_enc, sae.W_dec, sae.b_enc, sae.b_dec]
    for ours, theirs in zip(*(torch.autograd.grad(each, parameters) for each in (loss, twin)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12 * float(theirs.abs().max()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_in_which_nothing_fires_has_finite_gradients(kind, path):
    sae = build(kind)
    with torch.no_grad():
        sae.b_enc.fill_(-100.0)
    report = sae.losses(batch_of(X))
    assert report.code.values.numel() == 0
    for gradient in torch.autograd.grad(report.loss, list(sae.parameters()), allow_unused=True):
        assert gradient is None or bool(torch.isfinite(gradient).all())


def test_the_window_by_hand():
    """Width 0.4 about a threshold of 1: from 0.8 to 1.2."""
    pre = torch.tensor([0.5, 0.9, 1.0, 1.1, 1.3, -0.1], requires_grad=True)
    threshold = torch.ones(6, requires_grad=True)
    assert jump(pre, threshold, 0.4).tolist() == pytest.approx([0, 0, 0, 1.1, 1.3, 0])
    assert step(pre, threshold, 0.4).tolist() == [0, 0, 0, 1, 1, 0]
    through, pull = torch.autograd.grad(jump(pre, threshold, 0.4).sum(), [pre, threshold])
    assert through.tolist() == [0, 0, 0, 1, 1, 0]
    assert pull.tolist() == pytest.approx([0, -2.5, -2.5, -2.5, 0, 0])
    assert torch.autograd.grad(step(pre, threshold, 0.4).sum(), [threshold])[0].tolist() == pytest.approx(
        [0, -2.5, -2.5, -2.5, 0, 0]
    )


def test_small_operations_pass_gradcheck():
    acts = torch.rand(7, 13, dtype=torch.float64)
    code = Code.from_dense(acts * (acts > 0.6))
    entries = SparseEntries(code.values, Pattern.of(code), code)
    vector = torch.randn(13, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(entries.of_feature, (vector,))
    pre, threshold = torch.randn(5, 4, dtype=torch.float64, requires_grad=True), torch.full((4,), 0.3).double()
    assert torch.autograd.gradcheck(lambda z: jump(z, threshold, 0.1), (pre,))
