"""The GPU's kernels beside their eager twins: under triton's interpreter here, on the GPU where there is one."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from interp.checkpoints import load_checkpoint, restore_state, save_checkpoint, take_state
from interp.code import ActivationBatch, Code
from interp.errors import NonFiniteError
from interp.loop import UnheldError, one_step, update
from saes import SAE, SAEConfig, create_sae
from saes.ops.acceleration import acceleration
from saes.ops.encode import Preactivations
from saes.ops.select import Selection, select_above_each, select_per_batch, select_per_token
from saes.ops.sparse import Pattern, combine, errors_into_pulls, gathered_dot, prefix_losses
from saes.optimiser import make_optimiser

pytest.importorskip("triton", reason="triton is not installed: pip install triton")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
B, D, F, K = 24, 20, 150, 4
ARCHITECTURES = ("topk", "batch_topk", "matryoshka", "jumprelu", "standard", "gated")


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def _preactivations(kind: str) -> Preactivations:
    x, weight, bias = _random(B, D), _random(F, D, seed=1), torch.zeros(F, device=DEVICE)
    if kind == "ties":
        x, weight = x.round(), weight.round()
    elif kind == "uneven tokens":
        x *= torch.linspace(0.1, 6, B, device=DEVICE)[:, None]
    elif kind == "few positive":
        bias -= 9
    dtype = torch.bfloat16 if kind == "bfloat16" else torch.float32
    return Preactivations(x, weight, bias, dtype)


def _same(ours: Code, twin: Code) -> None:
    assert ours.row_offsets.tolist() == twin.row_offsets.tolist()
    assert ours.features.tolist() == twin.features.tolist()
    torch.testing.assert_close(ours.values, twin.values, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["plain", "ties", "uneven tokens", "few positive", "bfloat16"])
@pytest.mark.parametrize("select", [select_per_token, select_per_batch])
@pytest.mark.parametrize("k", [1, K, 9])
def test_selection_is_the_twins(kind: str, select: object, k: int) -> None:
    pre = _preactivations(kind)
    assert callable(select)
    with acceleration("eager"):
        twin: Selection = select(pre, k)
    with acceleration("triton"):
        ours: Selection = select(pre, k)
    _same(ours.code.active(), twin.code.active())


@pytest.mark.parametrize("kind", ["plain", "ties"])
@pytest.mark.parametrize("k", [3, 40])
def test_selection_over_several_chunks_and_more_groups_than_one_program_bounds(
    monkeypatch: pytest.MonkeyPatch, kind: str, k: int
) -> None:
    """Chunks of 8 and 7 tokens; 1,251 groups of features, of which the last has two."""
    from saes.ops import encode

    f = 40_002
    monkeypatch.setattr(encode, "CHUNK_ENTRIES_CPU", 4 * f)
    monkeypatch.setattr(encode, "CHUNK_ENTRIES_GPU", 4 * f)
    x, weight = _random(15, 6), _random(f, 6, seed=1)
    if kind == "ties":
        x, weight = x.round(), weight.round()
    pre = Preactivations(x, weight, torch.zeros(f, device=DEVICE))
    assert pre.n_chunks > 1
    for select in (select_per_token, select_per_batch):
        with acceleration("eager"):
            twin = select(pre, k)
        with acceleration("triton"):
            ours = select(pre, k)
        _same(ours.code, twin.code)
    threshold = _random(f, seed=3).abs() + 3
    with acceleration("eager"):
        each = select_above_each(pre, threshold)
    with acceleration("triton"):
        _same(select_above_each(pre, threshold).code, each.code)


def test_thresholds_of_each_feature_select_as_the_twin_does() -> None:
    pre, threshold = _preactivations("plain"), _random(F, seed=3).abs() * 4
    with acceleration("eager"):
        twin = select_above_each(pre, threshold)
    with acceleration("triton"):
        ours = select_above_each(pre, threshold)
    assert twin.code.values.numel() > B
    _same(ours.code, twin.code)


def _code(seed: int = 0, *, hot: bool = False) -> Code:
    dense = torch.relu(_random(B, F, seed=seed) - 1.2)
    if hot:
        dense[:, 3] = 1 + dense[:, 5]
    return Code.from_dense(dense)


@pytest.mark.parametrize("n_tokens", [B, 700])
def test_sums_and_products_over_entries(n_tokens: int) -> None:
    dense = torch.relu(_random(n_tokens, 40, seed=2) - 1.0)
    # One feature fires on every token: its segment is cut into pieces where tokens are many.
    dense[:, 3] = 1.0
    dense[:, 7] = 0.0
    code = Code.from_dense(dense)
    matrix, other = _random(n_tokens, D, seed=4), _random(40, D, seed=5)
    with acceleration("triton"):
        pattern = Pattern.of(code)
    with acceleration("eager"):
        twin = Pattern.of(code)
    assert pattern.feature_offsets.tolist() == twin.feature_offsets.tolist()
    assert pattern.by_feature.tolist() == twin.by_feature.tolist()
    order = twin.by_feature
    arguments = matrix, twin.rows[order], twin.feature_offsets, code.values[order]
    with acceleration("triton"):
        ours = combine(*arguments, pattern.pieces)
        dots = gathered_dot(matrix, twin.rows, other, twin.features)
        per_token = combine(other, twin.features, twin.row_offsets, code.values)
    torch.testing.assert_close(ours, dense.t() @ matrix, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(dots, (matrix @ other.t())[dense > 0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(per_token, dense @ other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("d", [D, 600])
@pytest.mark.parametrize("widths", [(F,), (10, 40, F)])
def test_prefix_losses_and_their_gradients(widths: tuple[int, ...], d: int) -> None:
    """A width of 600 is cut into several blocks of columns."""
    weights = (0.25, *[0.5] * len(widths))
    found = {}
    for mode in ("eager", "triton"):
        code = _code()
        target, values = _random(B, d, seed=6).requires_grad_(), code.values.clone().requires_grad_()
        decoder, centre = _random(F, d, seed=7).requires_grad_(), _random(d, seed=8).requires_grad_()
        none = code.features[:0]
        with acceleration("eager" if mode == "eager" else "triton"):
            result = prefix_losses(target, centre, values, decoder, Pattern.of(code), widths, weights, none)
            grads = torch.autograd.grad(result.loss, (target, centre, values, decoder))
        found[mode] = [result.loss, result.errors, result.residual, *grads]
    for ours, twin in zip(found["triton"], found["eager"], strict=True):
        torch.testing.assert_close(ours, twin, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("n_groups", [1, 3, 10])
@pytest.mark.parametrize("d", [D, 33, 600])
def test_walking_up_and_down_group_sums_that_are_there(n_groups: int, d: int) -> None:
    """The residual of a prefix is what its groups leave; a group is pulled by those of all prefixes that contain it."""
    centred, sums = _random(B, d, seed=9), _random(B, n_groups, d, seed=10)
    weights = tuple(_random(n_groups + 1, seed=14).tolist())
    left = torch.cat([centred[:, None], centred[:, None] - sums.cumsum(1)], dim=1)
    weighted = left[:, 1:] * torch.tensor(weights[1:], device=DEVICE)[:, None]
    pulls = weighted.flip(1).cumsum(1).flip(1)
    centre_pull = pulls[:, 0].sum(0) + weights[0] * centred.sum(0)
    expected = (left.square().sum(dim=(0, 2)) / B, left[:, -1], centre_pull, pulls)
    for mode in ("eager", "triton"):
        walked = sums.clone()
        with acceleration("eager" if mode == "eager" else "triton"):
            found = (*errors_into_pulls(centred, walked, weights), walked)
        for ours, known in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, known, rtol=1e-5, atol=5e-5)


class _Batches:
    """Batches that the step's number makes."""

    def __init__(self) -> None:
        self.step = 0

    def __next__(self) -> ActivationBatch:
        none = torch.zeros(B, dtype=torch.int64, device=DEVICE)
        self.step += 1
        return ActivationBatch({"x": 3 * _random(B, D, seed=60 + self.step)}, none, none, none)

    def cursor(self) -> dict[str, int]:
        return {"step": self.step}

    def seek(self, cursor: Mapping[str, int]) -> None:
        self.step = cursor["step"]


def test_a_checkpoint_goes_on_with_the_same_bytes(tmp_path: Path) -> None:
    def steps(sae: SAE, optimiser: torch.optim.Optimizer, batches: _Batches, n: int) -> None:
        for _ in range(n):
            one_step(sae, optimiser, next(batches), lr=1e-3, clip_norm=0.5, step=batches.step)

    with acceleration("triton"):
        ends = []
        for stop in (True, False):
            (sae, _), batches = _trained("matryoshka", "triton", n_steps=0), _Batches()
            optimiser = make_optimiser(sae, 1e-3)
            steps(sae, optimiser, batches, 2)
            if stop:
                state = take_state(sae, optimiser, batches, step=2, n_tokens=2 * B, metrics_offset=0)
                path = save_checkpoint(tmp_path, state)
                (sae, _), batches = _trained("matryoshka", "triton", n_steps=0), _Batches()
                optimiser = make_optimiser(sae, 1e-3)
                restore_state(load_checkpoint(path), sae, optimiser, batches)
            steps(sae, optimiser, batches, 2)
            ends.append((sae.state_dict(), take_state(sae, optimiser, batches, step=4, n_tokens=0, metrics_offset=0)))
    (resumed, at_resumed), (whole, at_whole) = ends
    for name, tensor in whole.items():
        assert tensor.equal(resumed[name]), name
    assert at_whole.optimiser.keys() == at_resumed.optimiser.keys()
    for name, tensor in at_whole.optimiser.items():
        assert tensor.equal(at_resumed.optimiser[name]), name


def _trained(architecture: str, mode: str, norm: str = "unit", n_steps: int = 3) -> tuple[SAE, list[float]]:
    with acceleration("eager" if mode == "eager" else "triton"):
        config = SAEConfig(architecture=architecture, d_sae=F, k=K, decoder_norm=norm, dead_share=0.001)
        sae = create_sae(config, D, hooks_in=("x",), token_budget=10_000, device=DEVICE)
        with torch.no_grad():
            rows = torch.nn.functional.normalize(_random(F, D, seed=11), dim=1)
            sae.W_dec.copy_(rows)
            sae.W_enc.copy_(rows)
            sae.b_dec.copy_(0.1 * _random(D, seed=12))
            sae.start(_random(B, D, seed=13))
        optimiser = make_optimiser(sae, 1e-3)
        none = torch.zeros(B, dtype=torch.int64, device=DEVICE)
        norms = []
        for step in range(n_steps):
            batch = ActivationBatch({"x": 3 * _random(B, D, seed=20 + step)}, none, none, none)
            norms.append(one_step(sae, optimiser, batch, lr=1e-3, clip_norm=0.5, step=step + 1)[1])
    return sae, norms


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_steps_are_the_twins(architecture: str) -> None:
    ours, norms = _trained(architecture, "triton")
    twin, twin_norms = _trained(architecture, "eager")
    assert norms == pytest.approx(twin_norms, rel=1e-4)
    for name, tensor in twin.state_dict().items():
        # A moment near zero turns a rounding of its gradient into a share of the learning rate.
        atol = 2e-4 if tensor.is_floating_point() else 0
        torch.testing.assert_close(ours.state_dict()[name], tensor, rtol=0, atol=atol, msg=name)
    assert torch.linalg.vector_norm(ours.W_dec, dim=1).sub(1).abs().max() < 1e-5


def test_free_decoder_norms_too() -> None:
    ours, _ = _trained("matryoshka", "triton", norm="free")
    twin, _ = _trained("matryoshka", "eager", norm="free")
    torch.testing.assert_close(ours.W_dec, twin.W_dec, rtol=0, atol=2e-4)


def test_the_same_step_gives_the_same_bytes() -> None:
    first, norms = _trained("matryoshka", "triton")
    second, again = _trained("matryoshka", "triton")
    assert norms == again
    for name, tensor in first.state_dict().items():
        assert tensor.equal(second.state_dict()[name]), name


def test_what_is_not_finite_moves_nothing() -> None:
    sae, _ = _trained("topk", "triton", n_steps=1)
    before = {name: tensor.clone() for name, tensor in sae.state_dict().items()}
    none = torch.zeros(B, dtype=torch.int64, device=DEVICE)
    x = _random(B, D, seed=40)
    x[0, 0] = torch.nan
    with acceleration("triton"):
        optimiser = make_optimiser(sae, 1e-3)
        report = sae.losses(ActivationBatch({"x": x}, none, none, none))
        with pytest.raises(NonFiniteError, match="step 2"):
            update(sae, optimiser, report, lr=1e-3, clip_norm=1.0, step=2)
    for name, tensor in before.items():
        assert tensor.equal(sae.state_dict()[name]), name


def test_either_adam_reads_the_others_state() -> None:
    sae, _ = _trained("topk", "triton", n_steps=1)
    with acceleration("triton"):
        ours = make_optimiser(sae, 1e-3)
    with acceleration("eager"):
        twin = make_optimiser(sae, 1e-3)
    for parameter in sae.parameters():
        if parameter.requires_grad:
            parameter.grad = _random(*parameter.shape, seed=50)
    twin.step()
    ours.load_state_dict(twin.state_dict())
    twin.load_state_dict(ours.state_dict())
    state = ours.state[sae.W_enc]
    assert int(state["step"]) == 1
    assert state["exp_avg"].equal(twin.state[sae.W_enc]["exp_avg"])


@pytest.mark.parametrize("shared", [4, 0])
def test_tokens_with_more_candidates_than_room(monkeypatch: pytest.MonkeyPatch, shared: int) -> None:
    from saes.ops import triton_candidates

    pre = _preactivations("uneven tokens")
    with acceleration("eager"):
        twin, each = select_per_batch(pre, K), select_above_each(pre, torch.full((F,), 2.0, device=DEVICE), k=K)
    monkeypatch.setattr(triton_candidates, "LEAST_ROOM", 8)
    monkeypatch.setattr(triton_candidates, "ROOM_PER_TOKEN", 2)
    monkeypatch.setattr(triton_candidates, "SHARED_ROOM", shared)
    assert int(twin.code.row_offsets.diff().max()) > triton_candidates.room_for(K)
    with acceleration("triton"):
        ours = select_per_batch(pre, K)
        _same(select_above_each(pre, torch.full((F,), 2.0, device=DEVICE), k=K).code, each.code)
    _same(ours.code, twin.code)
    # Without room set aside the eager path is taken, and says so.
    assert ours.fallbacks == (0 if shared else 1)


@pytest.mark.parametrize("select", [select_per_token, select_per_batch])
def test_what_a_provisional_selection_takes_for_granted(select: Callable[..., Selection]) -> None:
    sure = _preactivations("plain")
    pre = replace(sure, provisional=True)
    with acceleration("triton"):
        _same(select(pre, K).code, select(sure, K).code)
        assert bool(select(pre, K).holds)
        assert select(sure, K).holds is None


def _short_of_positives(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    return {"b_enc": -25.0}


def _short_of_room(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    from saes.ops import triton_candidates

    monkeypatch.setattr(triton_candidates, "LEAST_ROOM", 8)
    monkeypatch.setattr(triton_candidates, "ROOM_PER_TOKEN", 2)
    monkeypatch.setattr(triton_candidates, "SHARED_ROOM", 0)
    return {}


def _short_of_room_for_all(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    from saes.ops import select, triton_select

    monkeypatch.setattr(triton_select, "PROVISIONAL_ROOM", 1)
    monkeypatch.setattr(select, "MARGIN", 4.0)
    return {}


@pytest.mark.parametrize(
    ("architecture", "short"),
    [
        ("topk", _short_of_positives),
        ("topk", _short_of_room),
        ("batch_topk", _short_of_positives),
        ("matryoshka", _short_of_room),
        ("matryoshka", _short_of_room_for_all),
    ],
)
def test_a_step_that_took_too_much_for_granted_is_taken_again(
    monkeypatch: pytest.MonkeyPatch, architecture: str, short: Callable[[pytest.MonkeyPatch], dict[str, float]]
) -> None:
    """The same bytes as where the device is asked at once; nothing of the first try is left."""
    values = short(monkeypatch)
    none, ends = torch.zeros(B, dtype=torch.int64, device=DEVICE), []
    for sure in (False, True):
        (sae, _), held = _trained(architecture, "triton", n_steps=0), []
        with torch.no_grad(), acceleration("triton"):
            for name, value in values.items():
                sae.get_parameter(name).fill_(value)
        with acceleration("triton"):
            optimiser = make_optimiser(sae, 1e-3)
            for step in range(3):
                x = 3 * _random(B, D, seed=20 + step) * torch.linspace(0.1, 4, B, device=DEVICE)[:, None]
                batch = ActivationBatch({"x": x}, none, none, none)
                if sure:
                    update(sae, optimiser, sae.losses(batch), lr=1e-3, clip_norm=0.5, step=step + 1)
                    continue
                before = {name: tensor.clone() for name, tensor in sae.state_dict().items()}
                provisional = sae.provisional_losses(batch)
                held.append(provisional.holds is None or bool(provisional.holds))
                if not held[-1]:
                    with pytest.raises(UnheldError):
                        update(sae, optimiser, provisional, lr=1e-3, clip_norm=0.5, step=step + 1)
                for name, tensor in before.items():
                    assert held[-1] or tensor.equal(sae.state_dict()[name]), name
                report, _ = one_step(sae, optimiser, batch, lr=1e-3, clip_norm=0.5, step=step + 1)
                assert report.code is not None
                assert report.code.features.max() < F
        # The first step was refused; after it the device is asked at once.
        assert sure or (not held[0] and all(held[1:]))
        slots = {f"{i} {name}": x for i, s in enumerate(optimiser.state.values()) for name, x in s.items()}
        ends.append({**sae.state_dict(), **slots})
    assert ends[0].keys() == ends[1].keys()
    for name, tensor in ends[1].items():
        assert tensor.equal(ends[0][name]), name
