"""Local selections of ranks merged into the one that a single process would have made.

Every rank selects among its own features, as many as could win in all; then values are exchanged, and each keeps those
of its own that win. Ranks hold ascending ranges of features, so the tie rule needs no feature numbers: rank ascending,
then feature ascending within the rank, is feature ascending.

Axes: b tokens, f features of this rank, n entries of this rank's candidates, r ranks.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.code import Code
from interp.distributed import Ranks
from saes.ops.select import largest


def merge_per_token(code: Code, k: int, ranks: Ranks) -> Code:
    """Of at most k candidates for each token and rank, those among the token's k largest over all ranks."""
    # Selection on a GPU leaves room for entries that are none.
    code = code.active()
    rows = code.rows()
    place = torch.arange(rows.shape[0], device=rows.device) - code.row_offsets[rows]
    padded = code.values.new_zeros(code.n_rows, k)
    padded[rows, place] = code.values
    return code.keep(kept_of(padded, k, ranks)[rows, place])


def kept_of(values: Float[Tensor, "b m"], k: int, ranks: Ranks) -> Bool[Tensor, "b m"]:
    """Which of this rank's values are among the k largest positive ones of their row over all ranks."""
    everyone = ranks.gather(values).transpose(0, 1).flatten(1)
    width = values.shape[1]
    return largest(everyone, k)[:, ranks.rank * width : (ranks.rank + 1) * width]


def kept_of_signed(values: Float[Tensor, "b m"], k: int, ranks: Ranks) -> Bool[Tensor, "b m"]:
    """Which of this rank's values, at most k in a row, are among the k largest of their row over all ranks.

    All may be negative; of equals the first are kept, by rank and then by place.
    """
    n_rows, width = values.shape
    padded = values.new_full((n_rows, k), -torch.inf)
    padded[:, :width] = values
    everyone = ranks.gather(padded).transpose(0, 1).flatten(1)
    largest_k = everyone.sort(dim=1, descending=True, stable=True).indices[:, :k]
    kept = torch.zeros_like(everyone, dtype=torch.bool).scatter_(
        1, largest_k, torch.ones_like(largest_k, dtype=torch.bool)
    )
    return kept[:, ranks.rank * k : ranks.rank * k + width]


def merge_per_batch(code: Code, k: int, ranks: Ranks) -> Code:
    """Of at most k·b candidates of each rank, those among the k·b largest over all ranks."""
    code, n = code.active(), k * code.n_rows
    padded = code.values.new_zeros(n)
    padded[: code.values.shape[0]] = code.values
    everyone = ranks.gather(padded).flatten()
    smallest = everyone.topk(n, sorted=False).values.amin()
    room = n - (everyone > smallest).sum()
    above, equal = code.values > smallest, code.values == smallest
    return code.keep(above | (equal & (_place_among_ties(code, equal, ranks) < room)))


def _place_among_ties(code: Code, equal: Bool[Tensor, " n"], ranks: Ranks) -> Tensor:
    """For each entry that ties, how many ties come before it: of earlier tokens, of lower ranks, of lower features."""
    rows = code.rows()
    mine = torch.zeros(code.n_rows, dtype=torch.int64, device=rows.device).index_add_(0, rows, equal.long())
    ties = ranks.gather(mine)
    of_all = ties.sum(0)
    before = of_all.cumsum(0) - of_all + ties[: ranks.rank].sum(0)
    within = equal.cumsum(0) - 1 - (mine.cumsum(0) - mine)[rows]
    return before[rows] + within
