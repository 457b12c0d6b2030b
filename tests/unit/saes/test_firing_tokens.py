import torch

from interp.code import Code
from saes import firing_tokens
from saes.firing_tokens import FiringTokens


def test_rare_pairs_are_dropped_and_frequent_ones_kept(monkeypatch):
    monkeypatch.setattr(firing_tokens, "MERGE_AT", 10)
    monkeypatch.setattr(firing_tokens, "PAIRS_PER_FEATURE", 8)
    counts = FiringTokens(2, 1000)
    for start in range(0, 400, 4):
        # Token 7 in every batch, and three that come once each.
        tokens = torch.tensor([7, 100 + start, 101 + start, 102 + start])
        counts.add(Code.from_dense(torch.tensor([[1.0, 0.0]]).expand(4, 2)), tokens)
    tokens, shares = counts.most_frequent(2)
    assert tokens[0, 0] == 7
    assert shares[0, 0] == 0.25
    assert tokens[1].tolist() == [-1, -1]
    assert shares[1].tolist() == [0.0, 0.0]
