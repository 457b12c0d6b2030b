"""Features as plain JSON: a table by column, and one record per feature.

Axes: f features, K top examples, w window length.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from saes.features import FeatureStatistics

Json = dict[str, Any]
N_SAMPLED = 30
TABLE_CHIPS = 3


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
        "bin_edges": five_digits(statistics.bin_edges),
        "sample": {"seed": sample_seed, "ids": draw_sample(alive, sample_seed), "n_from": int(alive.size)},
    }


def draw_sample(alive: Int[np.ndarray, " n"], seed: int) -> list[int]:
    """Thirty features drawn without replacement from those that fire, in the order drawn; all, if fewer."""
    chosen = np.random.default_rng(seed).choice(alive, size=min(N_SAMPLED, alive.size), replace=False)
    return [int(feature) for feature in chosen]


def feature_table(statistics: FeatureStatistics) -> Json:
    """Columns of the table. `key` is the name in filters and addresses; filters also know those that are not listed."""
    s = statistics
    top_share = five_digits(s.firing_token_share[:, 0])
    columns = [
        _column("level", "level", "level", s.level.tolist(), "Matryoshka level, 1 is the most general"),
        _column("fires_on", "fires on", "tokens", _ids(s.firing_tokens), "commonest tokens it fires on"),
        _column("raises", "raises", "tokens", _ids(s.raised_tokens), "next tokens whose logit it raises most"),
        _column("density", "density", "share", five_digits(s.density), "share of tokens on which it fires"),
        _column("max", "max", "number", five_digits(s.max_activation), "largest activation seen"),
        _column("mean", "mean", "number", five_digits(s.mean_activation), "mean where it fires", listed=False),
        _column("top_token", "top token", "share", top_share, "share of firings on its commonest token"),
    ]
    if len(np.unique(s.level)) < 2:
        columns = columns[1:]
    return {"n": s.d_sae, "columns": columns, "density_interval": five_digits(s.density_interval)}


def feature_records(statistics: FeatureStatistics, features: Sequence[int], *, n_contexts: int) -> list[Json]:
    """One record per feature: histogram, logit effects, firing tokens, and its strongest contexts."""
    s = statistics
    chosen = np.asarray(features, dtype=np.int64)
    columns = zip(
        chosen.tolist(),
        s.histogram[chosen].tolist(),
        _pairs(s.raised_tokens[chosen], s.raised_logits[chosen]),
        _pairs(s.lowered_tokens[chosen], s.lowered_logits[chosen]),
        _pairs(s.firing_tokens[chosen], s.firing_token_share[chosen]),
        feature_contexts(s, chosen, limit=n_contexts),
        strict=True,
    )
    keys = ("id", "histogram", "raised", "lowered", "fires_on", "contexts")
    return [dict(zip(keys, values, strict=True)) for values in columns]


def feature_contexts(statistics: FeatureStatistics, features: Int[np.ndarray, " n"], *, limit: int) -> list[list[Json]]:
    """Contexts of each feature, strongest first. `fired` pairs a place in `tokens` with its activation; so does `peak`.

    `position` is the peak's place in its document.
    """
    s = statistics
    tokens = s.top_tokens[features, :limit]
    used = tokens >= 0
    acts = np.where(used, s.top_acts[features, :limit], 0).astype(np.float64)
    first, last = used.argmax(-1), used.shape[-1] - used[..., ::-1].argmax(-1)
    fires = acts > 0
    ends = fires.sum(-1).cumsum()
    places = (np.nonzero(fires)[2] - np.repeat(first.ravel(), fires.sum(-1).ravel())).tolist()
    strengths = five_digits(acts[fires])
    values = s.top_values[features, :limit]
    columns = {
        "value": five_digits(values),
        "peak": (s.top_peak[features, :limit] - first).tolist(),
        "document": s.top_document[features, :limit].tolist(),
        "position": s.top_position[features, :limit].tolist(),
    }
    found: list[list[Json]] = [[] for _ in range(len(features))]
    for line, rank in np.argwhere((values > 0) & used.any(-1)).tolist():
        end = int(ends[line * tokens.shape[1] + rank])
        span = slice(end - int(fires[line, rank].sum()), end)
        context = {key: column[line][rank] for key, column in columns.items()}
        context["fired"] = list(zip(places[span], strengths[span], strict=True))
        context["tokens"] = tokens[line, rank, first[line, rank] : last[line, rank]].tolist()
        found[line].append(context)
    return found


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


def _column(key: str, label: str, kind: str, values: list[Any], meaning: str, *, listed: bool = True) -> Json:
    return {"key": key, "label": label, "kind": kind, "meaning": meaning, "listed": listed, "values": values}


def _ids(tokens: np.ndarray) -> list[list[int]]:
    return [[int(token) for token in row if token >= 0] for row in tokens[:, :TABLE_CHIPS]]


def _pairs(tokens: np.ndarray, values: np.ndarray) -> list[list[tuple[int, float]]]:
    rows = zip(tokens.tolist(), five_digits(values), strict=True)
    return [[(t, v) for t, v in zip(ids, numbers, strict=True) if t >= 0 and v] for ids, numbers in rows]


def five_digits(values: np.ndarray) -> list[Any]:
    """Nested lists with five significant digits (float16 holds three, and a page must stay small); NaN becomes None."""
    array = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(array)
    size = np.where(finite & (array != 0), np.abs(array), 1.0)
    scale = 10.0 ** (4 - np.floor(np.log10(size)))
    rounded = np.round(np.where(finite, array, 0.0) * scale) / scale
    nested = rounded.astype(object)
    nested[~finite] = None
    found: list[Any] = nested.tolist()
    return found
