"""The sparse step equals its dense twin, and the twin equals finite differences."""

import pytest
import torch
from torch import Tensor

from interp.code import ActivationBatch, Code
from saes import SAE, SAEConfig, create_sae, initialise
from saes.losses import prefix_weights
from saes.ops import crossover, dense
from saes.ops.sparse import Pattern, encode_values, prefix_losses, sparse_decode

ARCHITECTURES = ("topk", "batch_topk", "matryoshka")
VARIANTS = ("sum", "mean", "mean_with_bias")


def batch_of(x: Tensor) -> ActivationBatch:
    zeros = torch.zeros(x.shape[0], dtype=torch.int64)
    return ActivationBatch({"h": x}, zeros, zeros, zeros)


def build(dtype: torch.dtype = torch.float64, **config: object) -> tuple[SAE, Tensor]:
    """An SAE with biases away from zero, and a batch."""
    settings = {"architecture": "matryoshka", "d_sae": 96, "k": 5, "n_prefixes": 4, "aux_coefficient": 0.0, **config}
    sae = create_sae(SAEConfig(**settings), 24, hooks_in=("h",), dtype=dtype, token_budget=1000)
    x = torch.randn(300, 24, dtype=dtype) * 3 + 1
    initialise(sae, x, seed=1)
    with torch.no_grad():
        sae.b_enc.normal_(0, 0.1)
        sae.b_dec.add_(0.3)
        sae.W_enc.add_(0.05 * torch.randn_like(sae.W_enc))
    return sae, x


def dense_acts(sae: SAE, x: Tensor) -> tuple[Tensor, Tensor]:
    centred = x * sae.input_scale - sae.b_dec
    acts = dense.dense_encode(centred, sae.W_enc, sae.b_enc)
    if sae.config.architecture == "topk":
        return centred, dense.dense_select_per_token(acts, sae.config.k)
    return centred, dense.dense_select_per_batch(acts, sae.config.k)


def dense_loss(sae: SAE, x: Tensor) -> Tensor:
    centred, acts = dense_acts(sae, x)
    widths = sae.prefix_widths()
    errors, _ = dense.dense_prefix_losses(centred, acts, sae.W_dec, widths)
    return (errors * errors.new_tensor(prefix_weights(sae.config.loss_variant, len(widths)))).sum()


def gradients(sae: SAE, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, [sae.W_enc, sae.W_dec, sae.b_enc, sae.b_dec]))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_value_and_gradients_equal_the_dense_twin(architecture: str, dtype: torch.dtype, tolerance: float):
    sae, x = build(dtype, architecture=architecture)
    sparse, twin = sae.losses(batch_of(x)).loss, dense_loss(sae, x)
    torch.testing.assert_close(sparse, twin, rtol=tolerance, atol=0)
    for ours, theirs in zip(gradients(sae, sparse), gradients(sae, twin), strict=True):
        assert theirs.abs().max() > 0
        torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance * float(theirs.abs().max()))


@pytest.mark.parametrize("variant", VARIANTS)
def test_matryoshka_variants_equal_the_dense_twin(variant: str):
    sae, x = build(loss_variant=variant)
    sparse, twin = sae.losses(batch_of(x)).loss, dense_loss(sae, x)
    torch.testing.assert_close(sparse, twin)
    for ours, theirs in zip(gradients(sae, sparse), gradients(sae, twin), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12 * float(theirs.abs().max()))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("k_aux", [3, 50])
def test_dead_feature_loss_equals_its_formula(architecture: str, k_aux: int):
    sae, x = build(architecture=architecture, aux_coefficient=1 / 32, k_aux=k_aux)
    dead = torch.arange(0, 96, 7)
    sae.tokens_since_fired[dead] = 10_000
    centred, acts = dense_acts(sae, x)
    widths = sae.prefix_widths()
    errors, residual = dense.dense_prefix_losses(centred, acts, sae.W_dec, widths)
    dead_acts = dense.dense_select_per_token(
        torch.relu(centred @ sae.W_enc[dead].t() + sae.b_enc[dead]), min(k_aux, len(dead))
    )
    error = (residual.detach() - dead_acts @ sae.W_dec[dead]).square().sum(1).mean()
    twin = errors[1:].sum() + len(widths) / 32 * min(len(dead) / k_aux, 1.0) * error
    report = sae.losses(batch_of(x))
    torch.testing.assert_close(report.loss, twin)
    torch.testing.assert_close(report.terms["aux"], (min(len(dead) / k_aux, 1.0) * error).detach())
    for ours, theirs in zip(gradients(sae, report.loss), gradients(sae, twin), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12 * float(theirs.abs().max()))


def test_dense_path_equals_sparse_path(monkeypatch: pytest.MonkeyPatch):
    sae, x = build(aux_coefficient=1 / 32)
    sae.tokens_since_fired[::5] = 10_000
    sparse = sae.losses(batch_of(x)).loss
    expected = gradients(sae, sparse)
    monkeypatch.setitem(crossover.TABLES, "cpu", (crossover.Crossing(1, 1, 0.0),))
    loss = sae.losses(batch_of(x)).loss
    torch.testing.assert_close(loss, sparse)
    for ours, theirs in zip(gradients(sae, loss), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12 * float(theirs.abs().max()))


@pytest.mark.parametrize("name", ["W_enc", "W_dec", "b_enc", "b_dec"])
def test_gradients_equal_finite_differences(name: str):
    sae, x = build(loss_variant="mean_with_bias")
    parameter: Tensor = getattr(sae, name)
    (gradient,) = torch.autograd.grad(sae.losses(batch_of(x)).loss, [parameter])
    step, direction = 1e-6, torch.randn_like(parameter)
    # Along a random direction of the features that are active; the code itself must not change over the step.
    code = sae.losses(batch_of(x)).code
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            parameter.add_(direction, alpha=sign * step)
            report = sae.losses(batch_of(x))
            parameter.sub_(direction, alpha=sign * step)
        assert torch.equal(report.code.features, code.features)
        values.append(report.loss)
    slope = (values[0] - values[1]) / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(), slope.detach(), rtol=1e-5, atol=0)


def random_code(n_rows: int, d_sae: int, share: float) -> Code:
    acts = torch.rand(n_rows, d_sae, dtype=torch.float64)
    return Code.from_dense(acts * (torch.rand_like(acts) < share))


def test_single_operations_pass_gradcheck():
    code = random_code(7, 13, 0.3)
    pattern, widths, term_weights = Pattern.of(code), (2, 5, 13), (0.5, 1.0, 0.3, 2.0)
    centred, centre = torch.randn(7, 4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    weight, extra = torch.randn(13, 4, dtype=torch.float64), torch.tensor([1, 6, 11])
    values = code.values.clone()

    def loss(c: Tensor, v: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        result = prefix_losses(c, centre, v, w, pattern, widths, term_weights, extra)
        return result.loss, result.extra_rows

    inputs = [t.requires_grad_() for t in (centred, values, weight)]
    assert torch.autograd.gradcheck(loss, inputs)
    bias = torch.randn(4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v, w, b: sparse_decode(v, w, b, pattern), (values, weight, bias))


def test_encoder_gradients_equal_autograd_of_gathered_values():
    code = random_code(7, 13, 0.3)
    pattern, extra = Pattern.of(code), torch.tensor([0, 12])
    x, centre = (torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in ((7, 4), (4,)))
    weight, bias = (torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in ((13, 4), (13,)))
    dense_values = ((x - centre) @ weight.t() + bias)[pattern.rows, pattern.features]
    values, rows, biases = encode_values(
        x - centre.detach(), centre, weight, bias, dense_values.detach(), pattern, extra
    )
    torch.testing.assert_close(values, dense_values)
    pull = torch.randn_like(values)
    leaves = [x, centre, weight, bias]
    ours = torch.autograd.grad((values * pull).sum() + rows.square().sum() + biases.square().sum(), leaves)
    extras = weight[extra].square().sum() + bias[extra].square().sum()
    twin = torch.autograd.grad((dense_values * pull).sum() + extras, leaves)
    for a, b in zip(ours, twin, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_the_same_inputs_give_the_same_bytes(n_threads: int):
    torch.set_num_threads(n_threads)
    sae, _ = build(torch.float32, d_sae=1024, k=16, aux_coefficient=1 / 32)
    sae.tokens_since_fired[::9] = 10_000
    x = torch.randn(600, 24)
    first, second = (gradients(sae, sae.losses(batch_of(x)).loss) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)


def test_second_backward_gives_the_same_gradients():
    sae, x = build()
    loss = sae.losses(batch_of(x)).loss
    parameters = [sae.W_enc, sae.W_dec, sae.b_enc, sae.b_dec]
    first = torch.autograd.grad(loss, parameters, retain_graph=True)
    for a, b in zip(first, torch.autograd.grad(loss, parameters), strict=True):
        assert torch.equal(a, b)


def test_inference_gradients_equal_dense():
    sae, x = build(architecture="topk")
    x.requires_grad_()
    ours = torch.autograd.grad(sae.decode(sae.encode(x)).square().sum(), [x, sae.W_enc, sae.b_dec])
    _, acts = dense_acts(sae, x)
    out = (acts @ sae.W_dec + sae.b_dec) / sae.input_scale
    twin = torch.autograd.grad(out.square().sum(), [x, sae.W_enc, sae.b_dec])
    for a, b in zip(ours, twin, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("variant", ["sum", "mean"])
def test_one_prefix_is_batch_topk_exactly(variant: str):
    nested, x = build(prefixes=(96,), loss_variant=variant)
    plain, _ = build(architecture="batch_topk", loss_variant=variant, n_prefixes=1)
    plain.load_state_dict(nested.state_dict())
    ours, theirs = nested.losses(batch_of(x)), plain.losses(batch_of(x))
    assert torch.equal(ours.loss, theirs.loss)
    for a, b in zip(gradients(nested, ours.loss), gradients(plain, theirs.loss), strict=True):
        assert torch.equal(a, b)


def test_one_prefix_with_bias_term_differs_from_batch_topk():
    nested, x = build(prefixes=(96,), loss_variant="mean_with_bias")
    plain, _ = build(architecture="batch_topk", n_prefixes=1)
    plain.load_state_dict(nested.state_dict())
    ours, theirs = nested.losses(batch_of(x)).loss, plain.losses(batch_of(x)).loss
    bias_only = (x * nested.input_scale - nested.b_dec).square().sum(1).mean()
    torch.testing.assert_close(ours, (theirs + bias_only) / 2)


def test_free_decoder_norms_equal_the_folded_unit_sae():
    sae, x = build(decoder_norm="free")
    with torch.no_grad():
        sae.W_dec.mul_(torch.rand(96, 1) + 0.5)
    folded = sae.folded()
    torch.testing.assert_close(torch.linalg.vector_norm(folded.W_dec, dim=1), torch.ones(96, dtype=torch.float64))
    sae.threshold.fill_(0.7)
    folded.threshold.copy_(sae.threshold / sae.input_scale)
    ours, theirs = sae.encode(x), folded.encode(x)
    assert torch.equal(ours.features, theirs.features)
    torch.testing.assert_close(ours.values, theirs.values)
    torch.testing.assert_close(sae.decode(ours), folded.decode(theirs))
