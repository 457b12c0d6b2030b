"""Invariances of selection and of prefix decoding, for arbitrary small matrices."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp.code import Code
from saes.ops.dense import dense_select_per_batch, dense_select_per_token
from saes.ops.encode import Preactivations
from saes.ops.select import largest, select_per_batch, select_per_token
from saes.ops.sparse import Pattern, prefix_losses, sparse_decode

few_values = st.integers(-2, 3).map(float)


@st.composite
def matrices(draw: st.DrawFn) -> Tensor:
    """Small matrices with many ties."""
    n_rows, n_columns = draw(st.integers(1, 9)), draw(st.sampled_from([1, 3, 16, 32, 40]))
    row = st.lists(few_values, min_size=n_columns, max_size=n_columns)
    return torch.tensor(draw(st.lists(row, min_size=n_rows, max_size=n_rows)))


def as_preactivations(matrix: Tensor) -> Preactivations:
    return Preactivations(torch.eye(matrix.shape[0]), matrix.t().contiguous(), torch.zeros(matrix.shape[1]))


@settings(deadline=None, max_examples=150)
@given(matrices(), st.integers(1, 12))
def test_selection_breaks_ties_like_a_stable_sort(matrix: Tensor, k: int):
    k = min(k, matrix.shape[1])
    pre, acts = as_preactivations(matrix), matrix.relu()
    assert torch.equal(select_per_batch(pre, k).code.dense(), dense_select_per_batch(acts, k))
    assert torch.equal(select_per_token(pre, k).code.dense(), dense_select_per_token(acts, k))


@settings(deadline=None, max_examples=100)
@given(matrices(), st.integers(1, 12))
def test_largest_is_idempotent_and_bounded(matrix: Tensor, k: int):
    kept = largest(matrix, k)
    assert int(kept.sum(1).max()) <= k
    assert torch.equal(largest(matrix * kept, k), kept)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 8), st.integers(2, 24), st.integers(0, 2**31 - 1), st.data())
def test_prefix_decodes_accumulate_to_the_full_decode(n_rows: int, d_sae: int, seed: int, data: st.DataObject):
    generator = torch.Generator().manual_seed(seed)
    inner = data.draw(st.sets(st.integers(1, d_sae - 1), max_size=4))
    widths = (*sorted(inner), d_sae)
    acts = torch.rand(n_rows, d_sae, generator=generator, dtype=torch.float64)
    code = Code.from_dense(acts * (acts > 0.6))
    weight = torch.randn(d_sae, 5, generator=generator, dtype=torch.float64)
    target = torch.randn(n_rows, 5, generator=generator, dtype=torch.float64)
    nothing, zero = torch.zeros(0, dtype=torch.int64), torch.zeros(5, dtype=torch.float64)
    pattern = Pattern.of(code)
    result = prefix_losses(target, zero, code.values, weight, pattern, widths, (0.0, *[1.0] * len(widths)), nothing)
    full = target - sparse_decode(code.values, weight, zero, pattern)
    torch.testing.assert_close(result.residual, full)
    torch.testing.assert_close(result.errors[-1], full.square().sum(1).mean())
    for width, error in zip(widths, result.errors[1:], strict=True):
        part = target - code.dense()[:, :width] @ weight[:width]
        torch.testing.assert_close(error, part.square().sum(1).mean())
