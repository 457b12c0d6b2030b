"""How a page's resources fit into one HTML file: gzip, base64, text stored once however many windows show it.

`text/<n>` holds blocks of token ids. A packed window says where in that text it begins (`at`) and how long it is (`n`);
`documents` says the same of each stretch of a document. web/embedded_source.js puts the tokens back, so the rest of the
page sees whole windows and documents.
"""

import base64
import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dashboards.feature_records import Json, WindowLimits, feature_records
from saes.feature_statistics import FeatureStatistics

FEATURES_PER_CHUNK = 128
TOKENS_PER_BLOCK = 1 << 16


@dataclass(frozen=True, slots=True)
class Stretch:
    """A piece of a document that windows cover without a gap: where it begins there and in the shared text."""

    document: int
    position: int
    at: int


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


def pack_features(statistics: FeatureStatistics, *, limits: WindowLimits) -> Iterator[tuple[str, Any]]:
    """Resources `text/<n>`, `documents` and `features/<n>`: all features with their windows."""
    records = feature_records(statistics, range(statistics.d_sae), limits=limits)
    windows = [w for record in records for kind in record["windows"].values() for w in kind or ()]
    text, starts, stretches = merge_windows(windows)
    for window, start in zip(windows, starts, strict=True):
        window |= {"at": start, "n": len(window.pop("tokens"))}
    for first in range(0, len(text), TOKENS_PER_BLOCK):
        yield f"text/{first // TOKENS_PER_BLOCK}", text[first : first + TOKENS_PER_BLOCK]
    yield "documents", _stretch_columns(stretches, len(text))
    for first in range(0, len(records), FEATURES_PER_CHUNK):
        yield f"features/{first // FEATURES_PER_CHUNK}", records[first : first + FEATURES_PER_CHUNK]


def packing_facts() -> Json:
    """What the page needs to know to unpack."""
    return {"features_per_chunk": FEATURES_PER_CHUNK, "tokens_per_block": TOKENS_PER_BLOCK}


def merge_windows(windows: Sequence[Json]) -> tuple[list[int], list[int], list[Stretch]]:
    """One text that holds every window's tokens, where each begins, and its stretches.

    Windows that overlap or touch in a document share a stretch.
    """
    begins = [window["position"] - window["peak"] for window in windows]
    order = sorted(range(len(windows)), key=lambda index: (windows[index]["document"], begins[index]))
    starts = [0] * len(windows)
    text: list[int] = []
    stretches: list[Stretch] = []
    for index in order:
        document, tokens = windows[index]["document"], windows[index]["tokens"]
        last = stretches[-1] if stretches else None
        offset = begins[index] - last.position if last else 0
        if last is None or last.document != document or not _continues(text, last.at + offset, tokens):
            last, offset = Stretch(document, begins[index], len(text)), 0
            stretches.append(last)
        starts[index] = last.at + offset
        text += tokens[len(text) - starts[index] :]
    return text, starts, stretches


def _continues(text: list[int], start: int, tokens: list[int]) -> bool:
    """Whether tokens at `start` touch the end of the text and say the same where they overlap it.

    Pieces of a long document count their positions anew, so equal positions alone prove nothing.
    """
    shared = min(len(text) - start, len(tokens))
    return shared >= 0 and text[start : start + shared] == tokens[:shared]


def _stretch_columns(stretches: Sequence[Stretch], n_text: int) -> Json:
    ends = [*(stretch.at for stretch in stretches[1:]), n_text]
    return {
        "document": [stretch.document for stretch in stretches],
        "position": [stretch.position for stretch in stretches],
        "at": [stretch.at for stretch in stretches],
        "n": [end - stretch.at for stretch, end in zip(stretches, ends, strict=False)],
    }


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
