"""Features as plain JSON: what the dictionary holds, the table by column, parents and children, tokens.

Axes: f features, q tokens.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Int

from dashboards.decoder_layout import DecoderLayout
from dashboards.numbers import five_digits
from saes.feature_pass.coactivation import MIN_TOGETHER
from saes.feature_statistics import FeatureStatistics

Json = dict[str, Any]
Labels = Mapping[int, tuple[str, str]]
"""A reader's own name and note of a feature."""
N_SAMPLED = 30
TREE_LEAST = 0.5
"""Share of a feature's firings on which its strongest parent must fire too, to stand above it in the tree."""
TABLE_CHIPS = 3
AUC_MEANING = {
    "detection_auc": "held-out AUC of telling firings of unseen documents by the contexts collected; 0.5 is chance",
    "token_auc": "held-out AUC of telling firings by the current token alone; near 1 the feature is a token detector",
    "bigram_auc": "held-out AUC of telling firings by the current and the previous token",
}


def feature_facts(
    statistics: FeatureStatistics | None, *, sample_seed: int, layout: DecoderLayout | None = None
) -> Json | None:
    """Size of the dictionary, what it was looked at with, its levels, and the sample drawn as evidence."""
    if statistics is None:
        return None
    alive = np.flatnonzero(statistics.density > 0)
    return {
        "n": statistics.d_sae,
        "n_alive": int(alive.size),
        "n_tokens": statistics.n_tokens,
        "n_documents": statistics.n_documents,
        "n_coactivation_tokens": statistics.n_coactivation_tokens,
        "least_together": MIN_TOGETHER,
        "n_bands": statistics.n_bands,
        "levels": _levels(statistics.level),
        "bin_edges": five_digits(statistics.bin_edges),
        "sample": {"seed": sample_seed, "ids": draw_sample(alive, sample_seed), "n_from": int(alive.size)},
        "tree_least": TREE_LEAST,
        "has": {"tree": has_levels(statistics), "map": layout is not None, "token_index": True},
    }


def has_levels(statistics: FeatureStatistics) -> bool:
    """Whether the dictionary is nested, so that features have parents and children."""
    return len(np.unique(statistics.level)) > 1


def draw_sample(alive: Int[np.ndarray, " n"], seed: int) -> list[int]:
    """Thirty features drawn without replacement from those that fire, in the order drawn; all, if fewer."""
    chosen = np.random.default_rng(seed).choice(alive, size=min(N_SAMPLED, alive.size), replace=False)
    return [int(feature) for feature in chosen]


def feature_table(statistics: FeatureStatistics, labels: Labels | None = None) -> Json:
    """Columns of the table. `key` is the name in filters and addresses; filters also know those that are not listed."""
    s = statistics
    columns = [*_names(s, labels or {}), *_tokens(s), *_quantities(s), *_hooks(s), *_aucs(s), *_more(s)]
    return {"n": s.d_sae, "columns": columns, "density_interval": five_digits(s.density_interval)}


def tree(statistics: FeatureStatistics) -> Json:
    """Edges from children to parents, by column; each child's strongest parent first."""
    s = statistics
    child, rank = np.nonzero(s.parents >= 0)
    return {
        "child": child.tolist(),
        "parent": s.parents[child, rank].tolist(),
        "cosine": five_digits(s.parent_cosine[child, rank]),
        "parent_given_child": five_digits(s.parent_given_feature[child, rank]),
        "child_given_parent": five_digits(s.feature_given_parent[child, rank]),
    }


def tree_parents(statistics: FeatureStatistics) -> Int[np.ndarray, " n"]:
    """The feature right above each that has one in the tree."""
    s = statistics
    if s.parents.shape[1] == 0:
        return np.zeros(0, dtype=np.int64)
    return np.asarray(s.parents[(s.parents[:, 0] >= 0) & (s.parent_given_feature[:, 0] >= TREE_LEAST), 0])


def token_index(statistics: FeatureStatistics) -> Json:
    """For each token, the features that have it among their commonest; largest share of their firings first."""
    s = statistics
    feature, rank = np.nonzero(s.firing_tokens >= 0)
    tokens, shares = s.firing_tokens[feature, rank], s.firing_token_share[feature, rank]
    order = np.lexsort((feature, -shares, tokens))
    tokens, feature, shares = tokens[order], feature[order], shares[order]
    ids, first = np.unique(tokens, return_index=True)
    return {
        "ids": ids.tolist(),
        "features": [part.tolist() for part in np.split(feature, first[1:])] if ids.size else [],
        "shares": [five_digits(part) for part in np.split(shares, first[1:])] if ids.size else [],
    }


def map_facts(layout: DecoderLayout) -> Json:
    """Places of the features on the map, None for those left out, and what the map preserves."""
    kept, by_pca, by_chance = five_digits(np.array([layout.kept, layout.kept_by_pca, layout.kept_by_chance]))
    places = {"x": five_digits(layout.x), "y": five_digits(layout.y)}
    return places | {"kept": kept, "kept_by_pca": by_pca, "kept_by_chance": by_chance}


def _names(s: FeatureStatistics, labels: Labels) -> list[Json]:
    columns = []
    if has_levels(s):
        n = np.bincount(tree_parents(s), minlength=s.d_sae).tolist()
        columns = [
            _column("level", "level", "level", s.level.tolist(), "Matryoshka level, 1 is the most general"),
            _column("children", "children", "count", n, "features right below it in the tree", listed=False),
        ]
    for place, (key, meaning) in enumerate((("label", "your name for it"), ("note", "your note on it"))):
        texts = [labels.get(feature, ("", ""))[place] or None for feature in range(s.d_sae)]
        if any(texts):
            columns.append(_column(key, key, "text", texts, meaning, listed=key == "label"))
    return columns


def _tokens(s: FeatureStatistics) -> list[Json]:
    raises, lowers = _ids(s.raised_tokens), _ids(s.lowered_tokens)
    return [
        _column("fires_on", "fires on", "tokens", _ids(s.firing_tokens), "commonest tokens it fires on"),
        _column("raises", "raises", "tokens", raises, "next tokens whose logit it raises most", listed=False),
        _column("lowers", "lowers", "tokens", lowers, "next tokens whose logit it lowers most", listed=False),
    ]


def _quantities(s: FeatureStatistics) -> list[Json]:
    return [
        _column("density", "density", "share", five_digits(s.density), "share of tokens on which it fires"),
        _column("max", "max", "number", _firing(s, s.max_activation), "largest activation seen"),
        _column("mean", "mean", "number", _firing(s, s.mean_activation), "mean where it fires", listed=False),
    ]


def _hooks(s: FeatureStatistics) -> list[Json]:
    """Of a crosscoder, at which of its hooks a feature is written; in the order in which the run names them."""
    shares = np.zeros((s.d_sae, 0)) if s.hook_share is None else s.hook_share
    return [
        _column(
            f"hook_{number}", f"hook {number}", "share", five_digits(column), f"of its decoder norm, at hook {number}"
        )
        for number, column in enumerate(shares.T, start=1)
    ]


def _aucs(s: FeatureStatistics) -> list[Json]:
    titles = {"detection_auc": "AUC", "token_auc": "token AUC", "bigram_auc": "bigram AUC"}
    return [
        _column(key, title, "number", five_digits(getattr(s, key)), AUC_MEANING[key], listed=key != "bigram_auc")
        for key, title in titles.items()
    ]


def _more(s: FeatureStatistics) -> list[Json]:
    top = _firing(s, s.firing_token_share[:, 0])
    lift, cosine = _first(s.partners, s.partner_lift), _first(s.neighbours, s.neighbour_cosine)
    return [
        _column("top_token", "top token", "share", top, "share of firings on its commonest token", listed=False),
        _column("firings", "firings", "count", s.firings.tolist(), "tokens on which it fired", listed=False),
        _column("lift", "co-firing", "number", lift, "with its first partner, times chance", listed=False),
        _column("neighbour", "nearest cosine", "number", cosine, "largest decoder cosine", listed=False),
    ]


def _levels(level: np.ndarray) -> list[Json]:
    names, first, counts = np.unique(level, return_index=True, return_counts=True)
    return [
        {"level": int(name), "first": int(start), "n": int(count)}
        for name, start, count in zip(names, first, counts, strict=True)
    ]


def _column(key: str, label: str, kind: str, values: list[Any], meaning: str, *, listed: bool = True) -> Json:
    return {"key": key, "label": label, "kind": kind, "meaning": meaning, "listed": listed, "values": values}


def _firing(s: FeatureStatistics, values: np.ndarray) -> list[Any]:
    """Values of features that fire; None for the dead, which have none."""
    return five_digits(np.where(s.density > 0, values, np.nan))


def _first(ids: np.ndarray, values: np.ndarray) -> list[Any]:
    """The first entry's value; None where there is none."""
    return five_digits(np.where(ids[:, 0] >= 0, values[:, 0], np.nan)) if ids.shape[1] else [None] * len(ids)


def _ids(tokens: np.ndarray) -> list[list[int]]:
    return [[int(token) for token in row if token >= 0] for row in tokens[:, :TABLE_CHIPS]]
