"""Minimum description length of labels given activations: how many bits the labels take once the inputs are known.

Axes: n examples, d inputs, c classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from probes.intervals import Score, Statistic, cluster_interval
from probes.linear import CS, LinearProbe, iter_path, validation_loss
from probes.probe_activations import Inputs

FRACTIONS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.0625, 0.125, 0.25, 0.5, 1.0)
"""Where the online code fits anew. Source: Voita & Titov 2020 (arXiv 2003.12298), section 3.2."""
_FEWEST = 20
_VALIDATION = 0.3


@dataclass(frozen=True, slots=True)
class DescriptionLength:
    """The online code of labels.

    Units: bits. `bits`: of the labels given the inputs; `label_bits`: of the same code that sees no input. compression:
    n log2 c / bits; gain: label_bits / bits, which is 1 where the inputs tell nothing, however uneven the classes are.
    block_bits: of each block of examples, which end at `ends`.
    """

    n: int
    n_classes: int
    bits: float
    label_bits: float
    compression: Score
    gain: Score
    ends: tuple[int, ...]
    block_bits: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        plain = {name: getattr(self, name) for name in ("n", "n_classes", "bits", "label_bits")}
        scores = {name: getattr(self, name).to_json() for name in ("compression", "gain")}
        return plain | scores | {"ends": list(self.ends), "block_bits": list(self.block_bits)}

    @staticmethod
    def from_json(values: dict[str, Any]) -> "DescriptionLength":
        """The inverse of `to_json`."""
        scores = {name: Score.from_json(values[name]) for name in ("compression", "gain")}
        blocks = {name: tuple(values[name]) for name in ("ends", "block_bits")}
        return DescriptionLength(**{**values, **scores, **blocks})


def online_code(
    x: Inputs,
    y: Int[ndarray, " n"],
    document: Int[ndarray, " n"],
    *,
    n_classes: int,
    fractions: Sequence[float] = FRACTIONS,
    cs: Sequence[float] = CS,
    seed: int = 0,
) -> DescriptionLength:
    """Code each block of labels with a logistic probe of all that came before; the first block uniformly.

    Documents come in an order drawn by seed. Each probe's strength of regularisation is chosen within what came before,
    and its probabilities are smoothed by one example of each class, so that a class not seen yet can be coded.
    Source: Voita & Titov 2020 (arXiv 2003.12298), equation 3: L = t₁ log₂ K - Σ log₂ p.
    """
    order = _order(document, seed)
    held, answers = x[order], y[order]
    ends = block_ends(y.size, fractions)
    bits = code_bits(held, answers, ends, n_classes, cs)
    label_bits = code_bits(np.zeros((y.size, 0)), answers, ends, n_classes, cs)
    uniform = np.full(y.size, math.log2(n_classes))
    starts = (0, *ends[:-1])
    return DescriptionLength(
        n=y.size,
        n_classes=n_classes,
        bits=float(bits.sum()),
        label_bits=float(label_bits.sum()),
        compression=cluster_interval(_ratio(uniform, bits), document[order], seed=seed),
        gain=cluster_interval(_ratio(label_bits, bits), document[order], seed=seed),
        ends=ends,
        block_bits=tuple(float(bits[start:end].sum()) for start, end in zip(starts, ends, strict=True)),
    )


def block_ends(n: int, fractions: Sequence[float] = FRACTIONS) -> tuple[int, ...]:
    """Where each block ends; fractions that give the same number of examples make one block."""
    return tuple(sorted({max(1, round(fraction * n)) for fraction in fractions}))


def code_bits(
    x: Inputs, y: Int[ndarray, " n"], ends: Sequence[int], n_classes: int, cs: Sequence[float]
) -> Float[ndarray, " n"]:
    """Units: bits of each example, in the order given."""
    bits = np.full(y.size, math.log2(n_classes))
    for start, end in pairwise(ends):
        log_p = _fitted(x[:start], y[:start], n_classes, cs).log_probabilities(x[start:end])
        p = np.exp(log_p[np.arange(end - start), y[start:end]])
        bits[start:end] = -np.log2((start * p + 1) / (start + n_classes))
    return bits


def _fitted(x: Inputs, y: Int[ndarray, " n"], n_classes: int, cs: Sequence[float]) -> LinearProbe:
    """The probe of what came before; its last part chooses the strength, and where there is little, the strongest."""
    n_fit, best = round((1 - _VALIDATION) * y.size), 0
    if x.shape[1] == 0:
        return _frequencies(y, n_classes)
    if y.size >= _FEWEST:
        path = iter_path(x[:n_fit], y[:n_fit], n_classes=n_classes, cs=cs)
        best = int(np.argmin([validation_loss(probe, x[n_fit:], y[n_fit:]) for probe in path]))
    *_, probe = iter_path(x, y, n_classes=n_classes, cs=cs[: best + 1])
    return probe


def _frequencies(y: Int[ndarray, " n"], n_classes: int) -> LinearProbe:
    """What is known without inputs."""
    with np.errstate(divide="ignore"):
        bias = np.log(np.bincount(y, minlength=n_classes) / y.size)
    return LinearProbe(np.zeros((n_classes, 0)), np.maximum(bias, -30.0))


def _order(document: Int[ndarray, " n"], seed: int) -> Int[ndarray, " n"]:
    """Examples document after document, documents in random order."""
    documents, member = np.unique(document, return_inverse=True)
    rank = np.random.default_rng(seed).permutation(documents.size)
    return np.argsort(rank[member], kind="stable")


def _ratio(over: Float[ndarray, " n"], under: Float[ndarray, " n"]) -> Statistic:
    def statistic(weights: Float[ndarray, " n"]) -> float:
        total = float(weights @ under)
        return float(weights @ over) / total if total > 0 else math.nan

    return statistic
