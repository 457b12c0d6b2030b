"""One feature as plain JSON: histogram, effects, windows of every kind, features that belong to it.

Axes: f features, E windows, w window length.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from dashboards.numbers import five_digits, rounded
from saes.feature_pass.cut import LEFT_SHARE
from saes.feature_statistics import FeatureStatistics
from saes.feature_windows import Windows

Json = dict[str, Any]
WINDOW_BUDGET = 1 << 18
"""Windows that a whole page holds, so that a page of any dictionary stays one that opens."""
FEWEST_TOP = 2


@dataclass(frozen=True, slots=True)
class WindowLimits:
    """How many windows of each kind a feature shows; `band` counts for each quantile band."""

    top: int
    random: int
    band: int


def window_limits(statistics: FeatureStatistics, budget: int = WINDOW_BUDGET) -> WindowLimits:
    """All that were collected, or each kind's share of the budget; never fewer than two top windows."""
    s = statistics
    collected = [windows.values.shape[1] for windows in (s.top, s.random, s.quantile)]
    share = min(1.0, budget / max(1, s.d_sae * sum(collected)))
    top, random, quantile = (int(count * share) for count in collected)
    return WindowLimits(max(min(FEWEST_TOP, collected[0]), top), random, quantile // max(s.n_bands, 1))


def feature_records(statistics: FeatureStatistics, features: Sequence[int], *, limits: WindowLimits) -> list[Json]:
    """One record per feature. The windows nearest to the threshold are those of quantile band 0."""
    s, chosen = statistics, np.asarray(features, dtype=np.int64)
    nothing = [None] * len(chosen)
    columns: dict[str, Sequence[Any]] = {
        "id": chosen.tolist(),
        "histogram": s.histogram[chosen].tolist(),
        "raised": _pairs(s.raised_tokens[chosen], s.raised_logits[chosen]),
        "lowered": _pairs(s.lowered_tokens[chosen], s.lowered_logits[chosen]),
        "fires_on": _pairs(s.firing_tokens[chosen], s.firing_token_share[chosen]),
        "cofiring": _cofiring(s, chosen),
        "neighbours": _pairs(s.neighbours[chosen], s.neighbour_cosine[chosen]) if s.neighbours.shape[1] else nothing,
        "children": _children(s, chosen),
        "windows": _windows(s, chosen, limits),
    }
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def windows_json(windows: Windows, features: Int[np.ndarray, " n"], *, band: int | None = None) -> list[list[Json]]:
    """Windows of each feature, strongest first. `fired` pairs a place in `tokens` with its activation; so does `peak`.

    `position` is the peak's place in its row of text, which `ends` with the window or goes on after it.
    """
    tokens = np.asarray(windows.tokens[features])
    values = np.asarray(windows.values[features])
    used = tokens >= 0
    acts = np.where(used, windows.acts[features], 0).astype(np.float64)
    ends_row = row_ends(used, windows.peak[features])
    first, last = used.argmax(-1), used.shape[-1] - used[..., ::-1].argmax(-1)
    fires = acts > 0
    ends = fires.sum(-1).cumsum()
    places = (np.nonzero(fires)[2] - np.repeat(first.ravel(), fires.sum(-1).ravel())).tolist()
    # float16 holds three digits.
    strengths = rounded(acts[fires], 3)
    columns = {
        "value": five_digits(values),
        "peak": (windows.peak[features] - first).tolist(),
        "document": windows.document[features].tolist(),
        "position": windows.position[features].tolist(),
    }
    ranked = np.argsort(-values, axis=1, kind="stable")
    shown = np.take_along_axis((values > 0) & used.any(-1), ranked, 1)
    found: list[list[Json]] = [[] for _ in range(len(features))]
    for line, place in np.argwhere(shown).tolist():
        rank = int(ranked[line, place])
        end = int(ends[line * tokens.shape[1] + rank])
        span = slice(end - int(fires[line, rank].sum()), end)
        window: Json = {key: column[line][rank] for key, column in columns.items()}
        window["ends"] = bool(ends_row[line, rank])
        window["fired"] = list(zip(places[span], strengths[span], strict=True))
        window["tokens"] = tokens[line, rank, first[line, rank] : last[line, rank]].tolist()
        found[line].append(window if band is None else window | {"band": band})
    return found


def row_ends(used: Bool[np.ndarray, "n E w"], peak: Int[np.ndarray, "n E"]) -> Bool[np.ndarray, "n E"]:
    """Whether the row of text ends with the window, as the pass cuts them (saes/feature_pass/cut.py).

    It does where the window is not full, and where it was moved left, its peak beyond the usual place, to fit. A row
    that ends by chance where a window in its usual place does is taken to go on.
    """
    width = used.shape[-1]
    return np.asarray(~used[..., -1] | (peak > int(width * LEFT_SHARE)))


def used_tokens(statistics: FeatureStatistics) -> Int[np.ndarray, " n"]:
    """Every token id that the tables or windows mention, ascending."""
    s = statistics
    mentioned = [s.firing_tokens, s.raised_tokens, s.lowered_tokens]
    mentioned += [windows.tokens for windows in (s.top, s.random, s.quantile)]
    ids = np.unique(np.concatenate([np.unique(array) for array in mentioned]))
    return ids[ids >= 0]


def _windows(s: FeatureStatistics, chosen: np.ndarray, limits: WindowLimits) -> list[Json]:
    """None for a kind of which nothing was collected, or nothing fits the page."""
    kinds: dict[str, list[Any]] = {"top": windows_json(s.top.part(0, limits.top), chosen)}
    nothing = [None] * len(chosen)
    kinds["random"] = windows_json(s.random.part(0, limits.random), chosen) if limits.random else nothing
    if limits.band:
        bands = [windows_json(s.band(q).part(0, limits.band), chosen, band=q) for q in range(s.n_bands)]
        kinds["quantile"] = [[window for band in each for window in band] for each in zip(*bands, strict=True)]
    else:
        kinds["quantile"] = nothing
    return [dict(zip(kinds, values, strict=True)) for values in zip(*kinds.values(), strict=True)]


def _cofiring(s: FeatureStatistics, chosen: np.ndarray) -> list[list[list[Any]]] | list[None]:
    """Partner, tokens together, P(partner | feature), P(feature | partner), times chance; None if not counted."""
    if s.n_coactivation_tokens == 0 or s.partners.shape[1] == 0:
        return [None] * len(chosen)
    shares = (s.partner_given_feature, s.feature_given_partner, s.partner_lift)
    return _entries(s.partners[chosen], s.partner_count[chosen].tolist(), *(five_digits(a[chosen]) for a in shares))


def _children(s: FeatureStatistics, chosen: np.ndarray) -> list[list[list[Any]]] | list[None]:
    """Child, decoder cosine, P(feature | child), P(child | feature); None if not counted."""
    if s.n_coactivation_tokens == 0 or s.children.shape[1] == 0:
        return [None] * len(chosen)
    shares = (s.child_cosine, s.feature_given_child, s.child_given_feature)
    return _entries(s.children[chosen], *(five_digits(a[chosen]) for a in shares))


def _entries(ids: np.ndarray, *columns: list[Any]) -> list[list[list[Any]]]:
    """Other features of each feature with their numbers."""
    rows = zip(ids.tolist(), *columns, strict=True)
    return [[list(entry) for entry in zip(*row, strict=True) if entry[0] >= 0] for row in rows]


def _pairs(ids: np.ndarray, values: np.ndarray) -> list[list[tuple[int, float]]]:
    rows = zip(ids.tolist(), five_digits(values), strict=True)
    return [[(t, v) for t, v in zip(row, numbers, strict=True) if t >= 0 and v] for row, numbers in rows]
