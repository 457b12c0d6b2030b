import torch
from hypothesis import given
from hypothesis import strategies as st

from saes.group_top import rank_in_runs, top_of_groups

ENTRIES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), max_size=30)


@given(entries=ENTRIES, k=st.integers(1, 4))
def test_it_is_what_a_loop_over_groups_gives(entries, k):
    groups = torch.tensor([group for group, _ in entries], dtype=torch.int64)
    values = torch.tensor([float(value) for _, value in entries])
    expected = []
    for group in sorted({group for group, _ in entries}):
        members = [(index, value) for index, (own, value) in enumerate(entries) if own == group]
        best = sorted(members, key=lambda member: (-member[1], member[0]))[:k]
        expected += [(index, rank) for rank, (index, _) in enumerate(best)]
    index, rank = top_of_groups(groups, values, k)
    assert list(zip(index.tolist(), rank.tolist(), strict=True)) == expected


@given(lengths=st.lists(st.integers(1, 5), max_size=8))
def test_ranks_begin_anew_with_each_run(lengths):
    groups = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths, dtype=torch.int64))
    assert rank_in_runs(groups).tolist() == [place for length in lengths for place in range(length)]
