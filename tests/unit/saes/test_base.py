"""What training keeps true, step after step."""

import pytest
import torch
from torch import Tensor

from interp.code import ActivationBatch, FeatureDictionary
from interp.errors import NonFiniteError, ShapeError
from interp.loop import update
from saes import SAE, SAEConfig, create_sae, initialise
from saes.config import ARCHITECTURE_NAMES


def batch_of(x: Tensor) -> ActivationBatch:
    zeros = torch.zeros(x.shape[0], dtype=torch.int64)
    return ActivationBatch({"h": x}, zeros, zeros, zeros)


def build(**config: object) -> tuple[SAE, torch.optim.Optimizer, Tensor]:
    settings = {"architecture": "matryoshka", "d_sae": 64, "k": 4, "n_prefixes": 3, **config}
    sae = create_sae(SAEConfig(**settings), 16, hooks_in=("h",), token_budget=10_000)
    x = torch.randn(256, 16) * 2 + 1
    initialise(sae, x, seed=0)
    return sae, torch.optim.Adam(sae.parameters(), lr=1e-2, fused=True), x


def step(sae: SAE, optimiser: torch.optim.Optimizer, x: Tensor) -> float:
    report = sae.losses(batch_of(x))
    update(sae, optimiser, report, lr=1e-2, clip_norm=1.0, step=1)
    return float(report.terms["loss"])


@pytest.mark.parametrize("architecture", ARCHITECTURE_NAMES)
def test_is_a_feature_dictionary_and_learns(architecture: str):
    # A weight that is given stays: a loss whose weight is steered need not fall.
    sae, optimiser, x = build(architecture=architecture, l1_coefficient=0.01)
    assert isinstance(sae, FeatureDictionary)
    losses = [step(sae, optimiser, x) for _ in range(30)]
    assert losses[-1] < 0.7 * losses[0]


def test_losses_are_pure():
    sae, _, x = build()
    before = {name: tensor.clone() for name, tensor in sae.state_dict().items()}
    first, second = sae.losses(batch_of(x)).loss, sae.losses(batch_of(x)).loss
    assert torch.equal(first, second)
    assert all(torch.equal(before[name], tensor) for name, tensor in sae.state_dict().items())


def test_unit_decoder_stays_unit_and_its_gradient_keeps_norms():
    sae, optimiser, x = build()
    for _ in range(5):
        step(sae, optimiser, x)
    torch.testing.assert_close(torch.linalg.vector_norm(sae.W_dec, dim=1), torch.ones(64))
    sae.losses(batch_of(x)).loss.backward()
    sae.project_gradients()
    along = (sae.W_dec.grad * sae.W_dec.detach()).sum(1)
    assert float(along.abs().max()) < 1e-5 * float(sae.W_dec.grad.abs().max())
    projected = sae.W_dec.grad.clone()
    sae.project_gradients()
    torch.testing.assert_close(sae.W_dec.grad, projected)


def test_counters_count_tokens_since_a_feature_fired():
    sae, optimiser, x = build()
    for n in (1, 2):
        report = sae.losses(batch_of(x))
        sae.after_update(report, optimiser)
        fired = torch.zeros(64, dtype=torch.bool)
        fired[report.code.features] = True
        assert bool((sae.tokens_since_fired[fired] == 0).all())
        assert bool((sae.tokens_since_fired[~fired] == 256 * n).all())
        assert int(sae.n_updates) == n


def test_dead_after_a_share_of_the_token_budget():
    sae, _, _ = build(dead_share=0.05)
    assert sae.dead_after_tokens == 500
    sae.tokens_since_fired[3], sae.tokens_since_fired[5] = 499, 500
    assert sae.dead_features().tolist() == [5]
    unbounded = create_sae(SAEConfig(d_sae=64, k=4), 16, hooks_in=("h",))
    unbounded.tokens_since_fired.fill_(10**9)
    assert unbounded.dead_features().numel() == 0


def test_dead_features_are_revived_by_their_loss_alone():
    sae, _, x = build(architecture="topk")
    with torch.no_grad():
        sae.b_enc[7] = -5.0
    sae.losses(batch_of(x)).loss.backward()
    assert float(sae.W_enc.grad[7].abs().max()) == 0
    sae.zero_grad()
    with torch.no_grad():
        sae.b_enc[7] = -0.5
        sae.W_enc[7] *= 0.9
    sae.tokens_since_fired[7] = 10_000
    sae.losses(batch_of(x)).loss.backward()
    assert float(sae.W_dec.grad[7].abs().max()) > 0


def test_threshold_is_the_running_mean_of_the_smallest_activation():
    sae, optimiser, x = build(architecture="batch_topk", threshold_rate=0.5)
    smallest = []
    for scale in (1.0, 2.0, 3.0):
        report = sae.losses(batch_of(x * scale))
        smallest.append(report.code.values.min())
        sae.after_update(report, optimiser)
    mean = (smallest[0] + smallest[1]) / 2
    torch.testing.assert_close(sae.threshold, mean + 0.5 * (smallest[2] - mean))


def test_code_at_inference_does_not_depend_on_the_batch():
    sae, optimiser, x = build()
    for _ in range(20):
        step(sae, optimiser, x)
    whole, part = sae.encode(x), sae.encode(x[10:20])
    torch.testing.assert_close(whole.dense()[10:20], part.dense())
    assert bool((whole.values > sae.threshold / sae.input_scale).all())


def test_decode_by_prefix_uses_its_features_only():
    sae, _, x = build()
    code = sae.encode(x)
    expected = code.dense()[:, :16] @ sae.W_dec[:16] + sae.b_dec / sae.input_scale
    torch.testing.assert_close(sae.decode(code, prefix=16), expected)
    torch.testing.assert_close(sae.decode(code, prefix=64), sae.decode(code))


def test_directions_are_what_a_unit_of_a_feature_adds():
    sae, _, x = build()
    code = sae.encode(x)
    rows = torch.linalg.vector_norm(sae.directions(torch.arange(64)), dim=1)
    torch.testing.assert_close(rows, torch.ones(64))
    expected = code.dense() @ sae.directions(torch.arange(64)) + sae.b_dec / sae.input_scale
    torch.testing.assert_close(sae.decode(code), expected)


def test_folding_changes_nothing_but_units():
    sae, optimiser, x = build()
    for _ in range(10):
        step(sae, optimiser, x)
    folded = sae.folded()
    assert float(folded.input_scale) == 1.0
    assert float(sae.input_scale) != 1.0
    ours, theirs = sae.encode(x), folded.encode(x)
    torch.testing.assert_close(ours.dense(), theirs.dense(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(sae.decode(ours), folded.decode(theirs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", ["topk", "batch_topk", "matryoshka", "standard"])
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_poisoned_activations_stop_before_any_weight_moves(architecture: str, poison: float):
    sae, optimiser, x = build(architecture=architecture)
    before = {name: tensor.clone() for name, tensor in sae.state_dict().items()}
    x[17, 3] = poison
    with pytest.raises(NonFiniteError):
        step(sae, optimiser, x)
    assert all(torch.equal(before[name], tensor) for name, tensor in sae.state_dict().items())


def test_other_widths_are_refused():
    sae, _, _ = build()
    with pytest.raises(ShapeError, match="16"):
        sae.encode(torch.zeros(4, 15))


def test_bfloat16_encoder_keeps_master_weights_and_learns():
    sae, optimiser, x = build(encoder_dtype="bfloat16")
    losses = [step(sae, optimiser, x) for _ in range(30)]
    assert sae.W_enc.dtype == torch.float32
    assert losses[-1] < 0.7 * losses[0]


def test_free_decoder_norms_learn_and_drift():
    sae, optimiser, x = build(decoder_norm="free")
    losses = [step(sae, optimiser, x) for _ in range(30)]
    norms = torch.linalg.vector_norm(sae.W_dec.detach(), dim=1)
    assert losses[-1] < 0.7 * losses[0]
    assert float((norms - 1).abs().max()) > 1e-3
    torch.testing.assert_close(torch.linalg.vector_norm(sae.directions(torch.arange(64)), dim=1), torch.ones(64))


def test_a_frozen_decoder_does_not_move():
    sae, _, x = build()
    sae.W_dec.requires_grad_(False)
    before = sae.W_dec.clone()
    optimiser = torch.optim.Adam([p for p in sae.parameters() if p.requires_grad], lr=1e-2, fused=True)
    for _ in range(3):
        step(sae, optimiser, x)
    torch.testing.assert_close(sae.W_dec, before)


def test_one_token_and_empty_batches():
    sae, _, x = build()
    assert sae.encode(x[:1]).n_rows == 1
    assert sae.encode(x[:0]).n_rows == 0
    assert sae.losses(batch_of(x[:1])).code.values.shape[0] <= 4


@pytest.mark.parametrize("architecture", ARCHITECTURE_NAMES)
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_not_encoded_as_nothing(architecture: str, poison: float):
    sae, _, x = build(architecture=architecture)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            assert sae.encode(x).n_rows == x.shape[0]
            with pytest.raises(NonFiniteError, match=f"h: 2 of {x.shape[0]} tokens have NaN or infinite activations"):
                sae.encode(x.index_fill(0, torch.tensor([3, 17]), poison))


def test_numbers_whose_sum_is_beyond_single_precision_are_encoded():
    sae, _, _ = build()
    assert sae.encode(torch.full((4, 16), 3e38)).n_rows == 4
