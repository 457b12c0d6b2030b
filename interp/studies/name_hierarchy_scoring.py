"""The one latent that stands for a parent class, and where it falls silent.

Axes: n tokens, d width, f features, c candidates (a feature at a threshold).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.code import Code
from probes.running_text import IGNORED

HOLE_BELOW, KEPT_ABOVE = 0.2, 0.8
LEAST_OCCURRENCES = 10


@dataclass(frozen=True, slots=True)
class LabelledTokens:
    """Activations of running text and what each token is.

    Shapes: acts (n, d); label (n,) number of a word, or OTHER or IGNORED; document (n,).
    """

    acts: Float[Tensor, "n d"]
    label: Int[Tensor, " n"]
    document: Int[Tensor, " n"]

    def members(self, words: Sequence[int]) -> Bool[Tensor, " n"]:
        """Tokens that are one of the words."""
        return torch.isin(self.label, torch.tensor(list(words), dtype=torch.int64))

    @property
    def counted(self) -> Bool[Tensor, " n"]:
        """Tokens that are something or other."""
        return self.label != IGNORED


@dataclass(frozen=True, slots=True)
class ParentScore:
    """How well one detector, chosen on other text, tells a parent class.

    word_recall: of each member seen often enough, the share of its tokens that are found, and how many there are.
    """

    parent: str
    feature: int | None
    precision: float
    recall: float
    f1: float
    word_recall: dict[str, tuple[float, int]]

    @property
    def n_holes(self) -> int:
        """Members on which the detector is all but silent."""
        return sum(recall < HOLE_BELOW for recall, _ in self.word_recall.values())

    @property
    def n_kept(self) -> int:
        """Members on which it nearly always fires."""
        return sum(recall > KEPT_ABOVE for recall, _ in self.word_recall.values())

    @property
    def hole_share(self) -> float:
        """Holes among the members seen often enough."""
        return self.n_holes / max(len(self.word_recall), 1)

    @property
    def least_recall(self) -> float:
        """Recall of the member that is found least."""
        return min((recall for recall, _ in self.word_recall.values()), default=float("nan"))


def best_feature(code: Code, is_member: Bool[Tensor, " n"], counted: Bool[Tensor, " n"]) -> int:
    """The feature whose firing has the best F1 for the class, on counted tokens; ties by number."""
    fired = code.values > 0
    rows, features = code.rows()[fired], code.features[fired].long()
    member = is_member & counted
    firings = torch.zeros(code.d_sae, dtype=torch.float64).index_add_(0, features, counted[rows].double())
    hits = torch.zeros(code.d_sae, dtype=torch.float64).index_add_(0, features, member[rows].double())
    return int((2 * hits / (firings + member.sum()).clamp(min=1)).argmax())


def fires(code: Code, feature: int) -> Bool[Tensor, " n"]:
    """Tokens on which a feature is active."""
    chosen = (code.features == feature) & (code.values > 0)
    out = torch.zeros(code.n_rows, dtype=torch.bool)
    out[code.rows()[chosen]] = True
    return out


def best_threshold(
    values: Float[Tensor, "n c"], is_member: Bool[Tensor, " n"], counted: Bool[Tensor, " n"]
) -> tuple[int, float, float]:
    """Column and threshold of the best F1 for "above the threshold", and that F1.

    A threshold lies strictly below the last value that it lets through; equal values stand or fall together.
    """
    held, y = values[counted], is_member[counted]
    ordered, order = held.sort(dim=0, descending=True)
    hits = y[order].double().cumsum(0)
    n_above = torch.arange(1, held.shape[0] + 1, dtype=torch.float64)[:, None]
    f1 = 2 * hits / (n_above + float(y.sum()))
    f1[:-1][ordered[:-1] == ordered[1:]] = -1.0
    flat = int(f1.argmax())
    row, column = divmod(flat, held.shape[1])
    after = ordered[row + 1, column] if row + 1 < held.shape[0] else ordered[row, column] - 1
    return column, float((ordered[row, column].double() + after.double()) / 2), float(f1.flatten()[flat])


def score_parent(
    parent: str,
    found: Bool[Tensor, " n"],
    tokens: LabelledTokens,
    words: Sequence[int],
    names: Sequence[str],
    *,
    feature: int | None = None,
) -> ParentScore:
    """Precision, recall and F1 of `found` for the parent whose members are `words`, and its recall of each of them."""
    member, found = tokens.members(words) & tokens.counted, found & tokens.counted
    hits = int((member & found).sum())
    precision, recall = hits / max(int(found.sum()), 1), hits / max(int(member.sum()), 1)
    f1 = 2 * hits / max(int(found.sum()) + int(member.sum()), 1)
    return ParentScore(parent, feature, precision, recall, f1, _word_recall(found, tokens, words, names))


def _word_recall(
    found: Bool[Tensor, " n"], tokens: LabelledTokens, words: Sequence[int], names: Sequence[str]
) -> dict[str, tuple[float, int]]:
    label, hit = tokens.label.numpy(), found.numpy()
    counts = {word: int((label == word).sum()) for word in words}
    often = sorted((word for word in words if counts[word] >= LEAST_OCCURRENCES), key=lambda word: -counts[word])
    return {names[word]: (float(np.mean(hit[label == word])), counts[word]) for word in often}
