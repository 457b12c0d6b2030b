"""Selection without a sort equals a stable sort of everything."""

import pytest
import torch
from torch import Tensor

from saes.ops.dense import dense_select_per_batch, dense_select_per_token
from saes.ops.encode import Preactivations
from saes.ops.select import Selection, select_above, select_per_batch, select_per_token


@pytest.fixture(autouse=True)
def three_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """300 rows of 512 features go through selection in three chunks, as a large batch would."""
    monkeypatch.setattr("saes.ops.encode.CHUNK_ENTRIES_CPU", 128 * 512)


def as_preactivations(matrix: Tensor) -> Preactivations:
    """Pre-activations that are exactly this matrix."""
    eye = torch.eye(matrix.shape[0], dtype=matrix.dtype)
    return Preactivations(eye, matrix.t().contiguous(), matrix.new_zeros(matrix.shape[1]), matrix.dtype)


def gaussian() -> Tensor:
    return torch.randn(300, 512)


def log_normal_rows() -> Tensor:
    return torch.randn(300, 512) * torch.randn(300, 1).exp()


def constant_rows() -> Tensor:
    return torch.arange(-3.0, 7.0).repeat(30)[:, None].expand(300, 512).contiguous()


def few_positive() -> Tensor:
    return torch.randn(300, 512) - 2.7


def bfloat16_ties() -> Tensor:
    return torch.randn(300, 512).bfloat16().float()


def one_heavy_chunk() -> Tensor:
    # The sampled rows (every third: 300 rows are 3 chunks) are far larger than the rest, so the first bound fails.
    scale = torch.ones(300, 1) * 0.01
    scale[::3] = 1.0
    return torch.randn(300, 512) * scale


CASES = (gaussian, log_normal_rows, constant_rows, few_positive, bfloat16_ties, one_heavy_chunk)


def assert_same(selection: Selection, expected: Tensor) -> None:
    assert torch.equal(selection.code.dense(), expected)
    assert bool((selection.code.values > 0).all())


@pytest.mark.parametrize("make", CASES)
@pytest.mark.parametrize("k", [1, 8, 100, 200])
def test_batch_selection_equals_a_flat_sort(make, k: int):
    matrix = make()
    assert_same(select_per_batch(as_preactivations(matrix), k), dense_select_per_batch(matrix.relu(), k))


@pytest.mark.parametrize("make", CASES)
@pytest.mark.parametrize("k", [1, 8, 100, 200])
def test_token_selection_equals_a_row_sort(make, k: int):
    matrix = make()
    assert_same(select_per_token(as_preactivations(matrix), k), dense_select_per_token(matrix.relu(), k))


@pytest.mark.parametrize("d_sae", [1, 7, 48, 100])
def test_widths_that_do_not_divide_into_groups(d_sae: int):
    matrix = torch.randn(150, d_sae)
    k = min(3, d_sae)
    assert_same(select_per_batch(as_preactivations(matrix), k), dense_select_per_batch(matrix.relu(), k))
    assert_same(select_per_token(as_preactivations(matrix), k), dense_select_per_token(matrix.relu(), k))


def test_a_misleading_sample_costs_a_counted_second_pass():
    assert select_per_batch(as_preactivations(one_heavy_chunk()), 100).fallbacks > 0
    assert select_per_batch(as_preactivations(gaussian()), 8).fallbacks == 0


def test_fewer_positive_than_wanted_gives_them_all():
    matrix = few_positive()
    selection = select_per_batch(as_preactivations(matrix), 200)
    assert selection.code.values.shape[0] == int((matrix > 0).sum())


def test_threshold_is_strict():
    matrix = torch.tensor([[1.0, 2.0, 3.0, 2.0]])
    code = select_above(as_preactivations(matrix), torch.tensor(2.0)).code
    assert code.features.tolist() == [2]
    assert select_above(as_preactivations(-matrix), torch.tensor(0.0)).code.values.numel() == 0


def test_bfloat16_encoder_selects_exactly_among_its_rounded_values():
    torch.manual_seed(3)
    centred, weight, bias = torch.randn(200, 32), torch.randn(256, 32), torch.randn(256)
    pre = Preactivations(centred, weight, bias, torch.bfloat16)
    whole = torch.empty(200, 256)
    for offset, chunk in pre:
        whole[offset :: pre.n_chunks] = chunk
    assert torch.equal(whole, whole.bfloat16().float())
    assert_same(select_per_batch(pre, 8), dense_select_per_batch(whole.relu(), 8))
