"""How a page's resources fit into one HTML file: gzip, base64, text stored once however many contexts show it.

`text/<n>` holds blocks of token ids. A packed context says where in that text it begins (`at`) and how
long it is (`n`); web/source.js puts the tokens back, so the rest of the page sees whole contexts.
"""

import base64
import gzip
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from dashboards.feature_contract import Json, feature_records
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
    """Resources `text/<n>` and `features/<n>`: all features with their contexts."""
    records = feature_records(statistics, range(statistics.d_sae), n_contexts=limit)
    contexts = [context for record in records for context in record["contexts"]]
    text, starts = merge_contexts(contexts)
    for context, start in zip(contexts, starts, strict=True):
        context |= {"at": start, "n": len(context.pop("tokens"))}
    for first in range(0, len(text), TOKENS_PER_BLOCK):
        yield f"text/{first // TOKENS_PER_BLOCK}", text[first : first + TOKENS_PER_BLOCK]
    for first in range(0, len(records), FEATURES_PER_CHUNK):
        yield f"features/{first // FEATURES_PER_CHUNK}", records[first : first + FEATURES_PER_CHUNK]


def packing_facts(limit: int) -> Json:
    """What the page needs to know to unpack."""
    return {
        "features_per_chunk": FEATURES_PER_CHUNK,
        "tokens_per_block": TOKENS_PER_BLOCK,
        "contexts_per_feature": limit,
    }


def merge_contexts(contexts: Sequence[Json]) -> tuple[list[int], list[int]]:
    """One text that holds every context's tokens, and where each begins; those that overlap in a document share it."""
    begins = [context["position"] - context["peak"] for context in contexts]
    order = sorted(range(len(contexts)), key=lambda index: (contexts[index]["document"], begins[index]))
    starts = [0] * len(contexts)
    text: list[int] = []
    document, stretch, begin = None, 0, 0
    for index in order:
        tokens = contexts[index]["tokens"]
        offset = begins[index] - begin
        if contexts[index]["document"] != document or not _continues(text, stretch + offset, tokens):
            document, stretch, begin, offset = contexts[index]["document"], len(text), begins[index], 0
        starts[index] = stretch + offset
        text += tokens[len(text) - starts[index] :]
    return text, starts


def _continues(text: list[int], start: int, tokens: list[int]) -> bool:
    """Whether tokens at `start` touch the end of the text and say the same where they overlap it.

    Pieces of a long document count their positions anew, so equal positions alone prove nothing.
    """
    shared = min(len(text) - start, len(tokens))
    return shared >= 0 and text[start : start + shared] == tokens[:shared]


def script_element(name: str, packed: str) -> str:
    """One resource inside the page."""
    return f'<script type="text/plain" data-resource="{name}">{packed}</script>'


def vocabulary(ids: np.ndarray, texts: list[str] | None) -> Json:
    """Texts of the tokens that the page mentions; null where a token's text is not known."""
    known = texts or []
    return {
        "ids": ids.tolist(),
        "texts": [known[token] if token < len(known) else None for token in ids.tolist()],
    }
