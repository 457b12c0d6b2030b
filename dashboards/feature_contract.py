"""Features as plain JSON: a table by column, and one record per feature.

Axes: f features, K top examples, w window length.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from saes.features import FeatureStatistics

Json = dict[str, Any]
N_SAMPLED = 30
TABLE_CHIPS = 3


@dataclass(frozen=True, slots=True)
class Window:
    """One context of a feature without its padding. Shapes: tokens, acts (n,). peak is an index into them."""

    tokens: Int[np.ndarray, " n"]
    acts: np.ndarray
    peak: int
    value: float
    document: int
    position: int


def feature_facts(statistics: FeatureStatistics | None, *, sample_seed: int) -> Json | None:
    """Size of the dictionary, what it was looked at with, its levels, and the sample drawn as evidence."""
    if statistics is None:
        return None
    alive = np.flatnonzero(statistics.density > 0)
    return {
        "n": statistics.d_sae,
        "n_alive": int(alive.size),
        "n_tokens": statistics.n_tokens,
        "n_documents": statistics.n_documents,
        "levels": _levels(statistics.level),
        "bin_edges": _rounded(statistics.bin_edges),
        "sample": {"seed": sample_seed, "ids": draw_sample(alive, sample_seed), "n_from": int(alive.size)},
    }


def draw_sample(alive: Int[np.ndarray, " n"], seed: int) -> list[int]:
    """Thirty features drawn without replacement from those that fire, in the order drawn; all, if fewer."""
    chosen = np.random.default_rng(seed).choice(alive, size=min(N_SAMPLED, alive.size), replace=False)
    return [int(feature) for feature in chosen]


def feature_table(statistics: FeatureStatistics) -> Json:
    """Columns of the sortable table; `key` is the name used in filters and addresses."""
    s = statistics
    columns = [
        _column("level", "level", "level", s.level.tolist(), "Matryoshka level, 1 is the most general"),
        _column("fires_on", "fires on", "tokens", _ids(s.firing_tokens), "commonest tokens it fires on"),
        _column("raises", "raises", "tokens", _ids(s.raised_tokens), "next tokens whose logit it raises most"),
        _column("density", "density", "share", _rounded(s.density), "share of tokens on which it fires"),
        _column("max", "max", "number", _rounded(s.max_activation), "largest activation seen"),
        _column("mean", "mean", "number", _rounded(s.mean_activation), "mean activation where it fires"),
        _column("top_token", "top token", "share", _rounded(_top_share(s)), "share of firings on its commonest token"),
    ]
    if len(np.unique(s.level)) < 2:
        columns = columns[1:]
    return {"n": s.d_sae, "columns": columns, "density_interval": _rounded(s.density_interval)}


def windows(statistics: FeatureStatistics, feature: int, *, limit: int) -> list[Window]:
    """The strongest contexts of a feature, strongest first, at most `limit`."""
    s = statistics
    found = []
    for rank in range(min(limit, s.top_values.shape[1])):
        value = float(s.top_values[feature, rank])
        used = np.flatnonzero(s.top_tokens[feature, rank] >= 0)
        if value <= 0 or used.size == 0:
            continue
        span = slice(int(used[0]), int(used[-1]) + 1)
        found.append(
            Window(
                tokens=s.top_tokens[feature, rank, span],
                acts=np.asarray(s.top_acts[feature, rank, span], dtype=np.float64),
                peak=int(s.top_peak[feature, rank]) - span.start,
                value=value,
                document=int(s.top_document[feature, rank]),
                position=int(s.top_position[feature, rank]),
            )
        )
    return found


def feature_record(statistics: FeatureStatistics, feature: int) -> Json:
    """Histogram, logit effects and firing tokens of one feature; its contexts are added by the host."""
    s = statistics
    return {
        "id": feature,
        "histogram": s.histogram[feature].tolist(),
        "raised": _pairs(s.raised_tokens[feature], s.raised_logits[feature]),
        "lowered": _pairs(s.lowered_tokens[feature], s.lowered_logits[feature]),
        "fires_on": _pairs(s.firing_tokens[feature], s.firing_token_share[feature]),
    }


def context(window: Window) -> Json:
    """A context as the renderer wants it, apart from its tokens: `fired` pairs an index with its activation."""
    fired = np.flatnonzero(window.acts > 0)
    return {
        "value": _number(window.value),
        "peak": window.peak,
        "document": window.document,
        "position": window.position,
        "fired": [[int(index), _number(window.acts[index])] for index in fired],
    }


def used_tokens(statistics: FeatureStatistics) -> Int[np.ndarray, " n"]:
    """Every token id that the tables or contexts mention, ascending."""
    s = statistics
    mentioned = (s.firing_tokens, s.raised_tokens, s.lowered_tokens, s.top_tokens)
    ids = np.unique(np.concatenate([np.unique(array) for array in mentioned]))
    return ids[ids >= 0]


def _levels(level: np.ndarray) -> list[Json]:
    names, first, counts = np.unique(level, return_index=True, return_counts=True)
    return [
        {"level": int(name), "first": int(start), "n": int(count)}
        for name, start, count in zip(names, first, counts, strict=True)
    ]


def _top_share(s: FeatureStatistics) -> np.ndarray:
    return np.asarray(s.firing_token_share[:, 0])


def _column(key: str, label: str, kind: str, values: list[Any], meaning: str) -> Json:
    return {"key": key, "label": label, "kind": kind, "meaning": meaning, "values": values}


def _ids(tokens: np.ndarray) -> list[list[int]]:
    return [[int(token) for token in row if token >= 0] for row in tokens[:, :TABLE_CHIPS]]


def _pairs(tokens: np.ndarray, values: np.ndarray) -> list[list[float]]:
    pairs = zip(tokens, values, strict=True)
    return [[int(token), _number(value)] for token, value in pairs if token >= 0 and value != 0]


def _rounded(values: np.ndarray) -> list[Any]:
    """Nested lists with five significant digits; NaN becomes null."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim > 1:
        return [_rounded(row) for row in array]
    return [_number(value) for value in array]


def _number(value: Any) -> Any:
    """Five significant digits: float16 holds three, and a page of a million numbers must stay small."""
    as_float = float(value)
    if not np.isfinite(as_float):
        return None
    return int(as_float) if as_float.is_integer() else float(f"{as_float:.5g}")
