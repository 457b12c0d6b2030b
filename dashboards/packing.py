"""How a page's resources fit into one HTML file: gzip, base64, text stored once however many contexts show it.

`text/<n>` holds blocks of token ids. A packed context says where in that text it begins (`at`) and how long it is (`n`);
web/source.js puts the tokens back, so the rest of the page sees whole contexts.
"""

import base64
import gzip
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from dashboards.feature_contract import Json, Window, context, feature_record, windows
from saes.features import FeatureStatistics

FEATURES_PER_CHUNK = 256
TOKENS_PER_BLOCK = 1 << 16
CONTEXT_BUDGET = 1 << 17


def contexts_per_feature(d_sae: int) -> int:
    """How many contexts each feature gets, so that a page of any dictionary stays one that opens."""
    return max(2, CONTEXT_BUDGET // max(d_sae, 1))


def as_json(value: Any) -> str:
    """Compact ASCII JSON that is safe inside a script element: no `<`, no raw line separators, no NaN."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c")


def compressed(data: bytes) -> str:
    """Base64 of gzip, without a time stamp: equal runs give equal pages."""
    return base64.b64encode(gzip.compress(data, compresslevel=6, mtime=0)).decode("ascii")


def pack_json(value: Any) -> str:
    """A JSON resource, packed."""
    return compressed(as_json(value).encode("ascii"))


def pack_features(statistics: FeatureStatistics, *, limit: int) -> Iterator[tuple[str, Any]]:
    """Resources `text/<n>` and `features/<n>`: all contexts of all features."""
    shown = [windows(statistics, feature, limit=limit) for feature in range(statistics.d_sae)]
    text, starts = merge_windows([window for each in shown for window in each])
    for first in range(0, len(text), TOKENS_PER_BLOCK):
        yield f"text/{first // TOKENS_PER_BLOCK}", text[first : first + TOKENS_PER_BLOCK].tolist()
    positions = iter(starts)
    records = [
        feature_record(statistics, feature)
        | {"contexts": [context(w) | {"at": next(positions), "n": len(w.tokens)} for w in each]}
        for feature, each in enumerate(shown)
    ]
    for first in range(0, len(records), FEATURES_PER_CHUNK):
        yield f"features/{first // FEATURES_PER_CHUNK}", records[first : first + FEATURES_PER_CHUNK]


def packing_facts(limit: int) -> Json:
    """What the page needs to know to unpack."""
    return {
        "features_per_chunk": FEATURES_PER_CHUNK,
        "tokens_per_block": TOKENS_PER_BLOCK,
        "contexts_per_feature": limit,
    }


def merge_windows(found: list[Window]) -> tuple[np.ndarray, list[int]]:
    """One text that contains every window, and where each begins; overlapping windows of a document share tokens."""
    order = sorted(range(len(found)), key=lambda i: (found[i].document, found[i].position - found[i].peak))
    starts = [0] * len(found)
    pieces: list[np.ndarray] = []
    length = 0
    document, begins, stretch = None, 0, np.zeros(0, dtype=np.int64)
    for index in order:
        window = found[index]
        offset = window.position - window.peak - begins
        if window.document != document or not _continues(stretch, window.tokens, offset):
            pieces.append(stretch)
            length += len(stretch)
            document, begins, offset = window.document, window.position - window.peak, 0
            stretch = np.zeros(0, dtype=np.int64)
        starts[index] = length + offset
        stretch = np.concatenate([stretch, window.tokens[max(len(stretch) - offset, 0) :]])
    return np.concatenate([*pieces, stretch]), starts


def _continues(stretch: np.ndarray, tokens: np.ndarray, offset: int) -> bool:
    """Whether the tokens overlap or touch the stretch at this offset and say the same where they overlap."""
    if not 0 <= offset <= len(stretch):
        return False
    shared = min(len(stretch) - offset, len(tokens))
    return bool(np.array_equal(stretch[offset : offset + shared], tokens[:shared]))


def script_element(name: str, packed: str) -> str:
    """One resource inside the page."""
    return f'<script type="text/plain" data-resource="{name}">{packed}</script>'


def vocabulary(ids: np.ndarray, texts: list[str] | None) -> Mapping[str, Any]:
    """Texts of the tokens that the page mentions; null where a token's text is not known."""
    known = texts or []
    return {
        "ids": ids.tolist(),
        "texts": [known[token] if token < len(known) else None for token in ids.tolist()],
    }
