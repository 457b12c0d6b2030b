"""How much of a behaviour a part of the model keeps when everything else is ablated, as a curve over the part's size.

Axes: n nodes, p prompts, s sizes, r random circuits.
"""

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from interp.effects import ratio_effect
from interp.errors import ArtifactError, ConfigError

Evaluate = Callable[[Bool[ndarray, " n"]], Float[ndarray, " p"]]
"""The outcome for each prompt when the nodes that are true are kept and the others ablated."""
N_RANDOM = 100


@dataclass(frozen=True, slots=True)
class FaithfulnessCurve:
    """Shares of the behaviour by circuit size: 0 is everything ablated, 1 is the model itself.

    Shapes: faithfulness, rest (s,): the circuit alone, and all but the circuit (completeness: near 0 when nothing that
    matters is outside). interval (2, s), over clusters of prompts. random (r, s): circuits with as many nodes at each
    hook, drawn from those that ablation changes; NaN where not measured.
    """

    arm: str
    sizes: tuple[int, ...]
    faithfulness: Float[ndarray, " s"]
    interval: Float[ndarray, "2 s"] | None
    rest: Float[ndarray, " s"]
    random: Float[ndarray, "r s"]
    n_prompts: int

    def to_json(self) -> dict[str, Any]:
        """Plain values; what was not measured becomes None."""
        held = {"arm": self.arm, "sizes": list(self.sizes), "n_prompts": self.n_prompts}
        arrays = {"faithfulness": self.faithfulness, "rest": self.rest, "random": self.random}
        plain = {name: _plain(x) for name, x in arrays.items()}
        return {**held, **plain, "interval": None if self.interval is None else _plain(self.interval)}

    @staticmethod
    def from_json(held: Mapping[str, Any], where: str = "curve") -> "FaithfulnessCurve":
        """From `to_json`'s values.

        Raises: ArtifactError if they are damaged.
        """
        try:
            arrays = {name: np.array(held[name], dtype=np.float64) for name in ("faithfulness", "rest", "random")}
            interval = None if held["interval"] is None else np.array(held["interval"], dtype=np.float64)
            return FaithfulnessCurve(
                arm=held["arm"], sizes=tuple(held["sizes"]), n_prompts=held["n_prompts"], interval=interval, **arrays
            )
        except (KeyError, TypeError, ValueError):
            raise ArtifactError(f"{where}: is damaged; run the analysis again") from None

    def beats_random(self) -> list[float]:
        """For each size, the share of random circuits that are less faithful; NaN where none was drawn."""
        drawn = np.isfinite(self.random)
        below = np.where(drawn, self.random < self.faithfulness, False).sum(0)
        return [float(b / n) if n else float("nan") for b, n in zip(below, drawn.sum(0), strict=True)]

    def random_spread(self, index: int) -> tuple[float, float, float] | None:
        """Of the random circuits of one of the sizes: what 2.5% are below, the median, what 2.5% are above."""
        draws = self.random[np.isfinite(self.random[:, index]), index]
        if not len(draws):
            return None
        low, middle, high = np.quantile(draws, [0.025, 0.5, 0.975])
        return float(low), float(middle), float(high)

    def _repr_html_(self) -> str:
        """A line for each size."""
        rows = "".join(
            f"<tr><td>{size:,}</td><td>{found:.3f}</td><td>{rest:.3f}</td><td>{_middle(self.random_spread(index))}</td></tr>"
            for index, (size, found, rest) in enumerate(zip(self.sizes, self.faithfulness, self.rest, strict=True))
        )
        head = "<th>nodes</th><th>faithfulness</th><th>without them</th><th>random, median (95%)</th>"
        return (
            f"<table><caption>{html.escape(self.arm)}, {self.n_prompts} prompts</caption><tr>{head}</tr>{rows}</table>"
        )


def _plain(values: ndarray) -> Any:
    out = values.astype(object)
    out[~np.isfinite(values)] = None
    return out.tolist()


def _middle(spread: tuple[float, float, float] | None) -> str:
    if spread is None:
        return ""
    low, middle, high = spread
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


@dataclass(frozen=True, slots=True)
class Ranking:
    """Nodes in the order in which they join a circuit, and what random circuits are drawn from.

    Shapes: order (n,): node numbers, most important first; group (n,): the hook or layer of each node; drawable (n,).
    """

    order: Int[ndarray, " n"]
    group: Int[ndarray, " n"]
    drawable: Bool[ndarray, " n"]

    @staticmethod
    def by_size(effect: Float[ndarray, " n"], group: Int[ndarray, " n"], drawable: Bool[ndarray, " n"]) -> "Ranking":
        """Largest absolute effect first."""
        return Ranking(np.argsort(-np.abs(effect), kind="stable"), group, drawable)

    def first(self, size: int) -> Bool[ndarray, " n"]:
        """The circuit of the first `size` nodes."""
        kept = np.zeros(len(self.order), dtype=bool)
        kept[self.order[:size]] = True
        return kept

    def random(self, size: int, generator: np.random.Generator) -> Bool[ndarray, " n"]:
        """As many nodes of each group as the first `size` have, drawn without replacement.

        Nodes that ablation does not change come last: they would fill random circuits with what does nothing.
        """
        kept = np.zeros(len(self.order), dtype=bool)
        wanted = np.bincount(self.group[self.order[:size]], minlength=int(self.group.max()) + 1)
        for group, n in enumerate(wanted):
            members = np.flatnonzero(self.group == group)
            shuffled = generator.permutation(members)
            ranked = shuffled[np.argsort(~self.drawable[shuffled], kind="stable")]
            kept[ranked[:n]] = True
        return kept


@dataclass(frozen=True, slots=True)
class Scale:
    """What shares are of: outcomes of the whole model and of the model with everything ablated, prompt by prompt."""

    full: Float[ndarray, " p"]
    empty: Float[ndarray, " p"]
    clusters: Int[ndarray, " p"]

    def share(self, outcome: Float[ndarray, " p"]) -> float:
        """(outcome - empty) / (full - empty), a ratio of means."""
        return float((outcome - self.empty).sum() / (self.full - self.empty).sum())


def curve_sizes(n_nodes: int) -> tuple[int, ...]:
    """Nothing, doublings, everything."""
    return (0, *(1 << power for power in range(n_nodes.bit_length()) if 1 << power < n_nodes), n_nodes)


def faithfulness_curve(
    evaluate: Evaluate,
    ranking: Ranking,
    scale: Scale,
    *,
    arm: str,
    sizes: Sequence[int] | None = None,
    random_sizes: Sequence[int] | None = None,
    n_random: int = N_RANDOM,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> FaithfulnessCurve:
    """Faithfulness of the first nodes of a ranking, by how many, of all the others, and of random circuits beside.

    Random circuits are drawn for `random_sizes`, by default for all sizes between nothing and everything. Where `sizes`
    are not given, the curve goes through the random ones too.

    Raises: ConfigError for sizes out of range.
    Source: Wang et al. 2022 (arXiv 2211.00593, faithfulness and completeness); Marks et al. 2024 (arXiv 2403.19647).
    """
    n_nodes = len(ranking.order)
    if sizes is None:
        more = [size for size in random_sizes or () if 0 < size < n_nodes]
        sizes = tuple(sorted({*curve_sizes(n_nodes), *more}))
    if not all(0 <= size <= n_nodes for size in sizes):
        raise ConfigError(f"sizes: got {list(sizes)}; expected 0 to {n_nodes}, the number of nodes")
    generator, wanted = np.random.default_rng(seed), sizes if random_sizes is None else random_sizes
    faithful = [evaluate(ranking.first(size)) for size in sizes]
    rest = [scale.share(evaluate(~ranking.first(size))) for size in sizes]
    random = np.full((n_random, len(sizes)), np.nan)
    drawn = [index for index, size in enumerate(sizes) if 0 < size < n_nodes and size in wanted]
    for done, index in enumerate(drawn):
        for draw in range(n_random):
            random[draw, index] = scale.share(evaluate(ranking.random(sizes[index], generator)))
        if on_progress is not None:
            on_progress(done + 1, len(drawn))
    found = ratio_effect(np.stack(faithful) - scale.empty, scale.full - scale.empty, scale.clusters)
    return FaithfulnessCurve(arm, tuple(sizes), found.value, found.interval, np.array(rest), random, len(scale.full))
