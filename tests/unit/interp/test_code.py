import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp.code import ActivationBatch, Code
from interp.errors import UnknownHookError


@given(st.integers(0, 6), st.integers(1, 9), st.integers(0, 2**31))
def test_dense_and_ragged_say_the_same(n_rows, d_sae, seed):
    generator = torch.Generator().manual_seed(seed)
    acts = torch.randn(n_rows, d_sae, generator=generator).relu()
    code = Code.from_dense(acts)
    assert torch.equal(code.dense(), acts)
    assert code.row_offsets.tolist() == [0, *(acts > 0).sum(1).cumsum(0).tolist()]
    assert code.l0() == pytest.approx(float((acts > 0).sum()) / max(n_rows, 1))


def test_zeros_among_the_entries_do_not_count():
    code = Code(torch.tensor([1.0, 0.0, 2.0]), torch.tensor([3, 1, 0]), torch.tensor([0, 2, 3]), 4)
    active = code.active()
    assert active.features.tolist() == [3, 0]
    assert active.row_offsets.tolist() == [0, 1, 2]
    assert torch.equal(active.dense(), code.dense())
    assert code.l0() == 1.0


@given(st.integers(0, 6), st.integers(1, 9), st.integers(0, 2**31))
def test_what_is_kept_of_a_code_is_the_chosen_part_of_its_matrix(n_rows, d_sae, seed):
    generator = torch.Generator().manual_seed(seed)
    code = Code.from_dense(torch.randn(n_rows, d_sae, generator=generator).relu())
    chosen = torch.rand(d_sae, generator=generator) < 0.5
    kept = code.keep(chosen[code.features])
    assert torch.equal(kept.dense(), code.dense() * chosen)
    assert kept.row_offsets.tolist() == [0, *(kept.dense() > 0).sum(1).cumsum(0).tolist()]


def test_hooks_are_stacked_in_the_order_asked_for():
    index = torch.zeros(2, dtype=torch.int64)
    batch = ActivationBatch({"a": torch.zeros(2, 1), "b": torch.ones(2, 2)}, index, index, index)
    assert batch.stacked(("b", "a")).tolist() == [[1, 1, 0]] * 2
    assert len(batch.take(slice(1, None))) == 1
    with pytest.raises(UnknownHookError, match="holds a, b"):
        batch.stacked(("c",))


def test_of_a_matrix_with_negative_entries_the_positive_ones_are_the_code():
    acts = torch.tensor([[-1.0, 2.0], [0.0, -3.0]])
    assert torch.equal(Code.from_dense(acts).dense(), acts.relu())
