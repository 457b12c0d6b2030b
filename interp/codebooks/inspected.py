"""The result of looking at a run's codes: codebooks, codes, pairs, patterns, and a draw beside neurons."""

import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from interp.codebooks.detection import Detection, code_detections, draw_codes, neuron_detections
from interp.codebooks.files import CodebookModel
from interp.codebooks.inspection import (
    BookFacts,
    CodeContext,
    CodeFacts,
    Counted,
    Pairing,
    book_facts,
    co_use,
    code_facts,
    raised_tokens,
    transitions,
)
from interp.codebooks.names import CodeName
from interp.codebooks.neurons import neuron_activations
from interp.codebooks.precision import LEAST_FIRINGS, Detected, Detector, best_codes
from interp.codebooks.record import CodeRecord, record_codes
from interp.codebooks.search import label_tokens, matching_tokens
from interp.datasets import open_stream
from interp.errors import ArtifactError
from interp.storage import read_json, write_json

SCHEMA_VERSION = 1
N_TABLE, N_DRAWN, N_PAIRS = 100, 30, 12
Tell = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a run's codes are about, on text that it was not trained on where some is held out.

    `codes` are the most frequent ones of each codebook and those drawn by seed for detection; `detected` tells how well
    the best code of each label does beside the best neuron at its recall.
    """

    run: str
    model: str
    n_tokens: int
    books: tuple[BookFacts, ...]
    codes: tuple[CodeFacts, ...]
    transitions: Mapping[str, tuple[Pairing, ...]]
    co_use: tuple[Pairing, ...]
    detected: tuple[Detected, ...]
    code_detection: tuple[Detection, ...]
    neuron_detection: tuple[Detection, ...]
    vocabulary: Mapping[int, str] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is not defined becomes None."""
        held = asdict(self)
        for one in (*held["code_detection"], *held["neuron_detection"]):
            one["auc"] = None if math.isnan(one["auc"]) else one["auc"]
        held["vocabulary"] = {str(token): text for token, text in self.vocabulary.items()}
        return {"schema_version": SCHEMA_VERSION, "kind": "codebook_inspection", **held}

    def save(self, path: Path) -> None:
        """Write as JSON.

        Raises: StorageError.
        """
        write_json(path, self.to_json())

    @staticmethod
    def load(path: Path) -> "Inspection":
        """Read what `save` wrote.

        Raises: ArtifactError if it is missing, damaged or of another kind.
        """
        held = read_json(path)
        if not isinstance(held, dict) or held.get("kind") != "codebook_inspection":
            raise ArtifactError(f"{path}: holds no inspection of codebooks; run `interp codebook inspect`")
        try:
            return _read(held)
        except (KeyError, TypeError, ValueError):
            raise ArtifactError(f"{path}: is damaged; inspect the run again") from None

    def _repr_html_(self) -> str:
        """Codebooks as a table."""
        rows = "".join(
            f"<tr><td>{html.escape(book.name)}</td><td>{book.n_active:,} of {book.n_codes:,}</td>"
            f"<td>{book.entropy_bits:.2f}</td></tr>"
            for book in self.books
        )
        head = "<tr><th>codebook</th><th>active codes</th><th>entropy, bits</th></tr>"
        return f"<table><caption>{self.n_tokens:,} tokens</caption>{head}{rows}</table>"

    def median_auc(self, found: Sequence[Detection]) -> float:
        """Median detection AUC of those that have one."""
        values = [one.auc for one in found if not math.isnan(one.auc)]
        return float(np.median(values)) if values else math.nan


def inspect_run(
    held: CodebookModel,
    texts: Sequence[str],
    *,
    n_tokens: int = 100_000,
    dataset: str | None = None,
    patterns: Sequence[str] = (),
    word_sets: Mapping[str, Sequence[str]] | None = None,
    seed: int = 0,
    provenance: Mapping[str, Any] | None = None,
    on_progress: Tell | None = None,
) -> tuple[Inspection, CodeRecord]:
    """One pass with the codebooks at work, and one without for the neurons; the record is what searching asks.

    `texts` is what each token id adds to a text.
    Raises: DataError without usable text; ConfigError for a bad pattern.
    """
    tell = on_progress or (lambda *_: None)
    config = held.config
    split = "heldout" if dataset is None and config.data.heldout_share > 0 else "all"
    stream = open_stream(dataset or config.dataset, held.model, config.data, split=split)  # type: ignore[arg-type]
    tell("looking at codes", 0, 4)
    record = record_codes(held.model, held.codebooks, stream.iter_pass(), n_tokens=n_tokens)
    tell("looking at codes", 1, 4)
    acts = neuron_activations(held.model, stream.iter_pass(), n_tokens=len(record))
    tell("looking at codes", 2, 4)
    drawn = code_detections(record, N_DRAWN, seed=seed)
    rivals = neuron_detections(record, acts, [one.share for one in drawn], seed=seed)
    tell("looking at codes", 3, 4)
    codes = _codes(held, record, seed)
    pairs = [pair for a, b in pairwise(record.books) for pair in co_use(record, a, b, 3)]
    result = Inspection(
        held.folder.run.name,
        config.model,
        len(record),
        tuple(book_facts(book) for book in record.books),
        codes,
        {book.name: transitions(record, book, N_PAIRS) for book in record.books},
        tuple(sorted(pairs, key=lambda pair: -pair.count)[: 2 * N_PAIRS]),
        _detected(record, texts, patterns, word_sets or {}, acts),
        drawn,
        rivals,
        _vocabulary(codes, texts),
        dict(provenance or {}),
    )
    tell("looking at codes", 4, 4)
    return result, record


def _codes(held: CodebookModel, record: CodeRecord, seed: int) -> tuple[CodeFacts, ...]:
    drawn = [record.books[b].code(code) for b, code in draw_codes(record, N_DRAWN, seed=seed)]
    per_book = max(1, N_TABLE // max(len(record.books), 1))
    common = [
        book.code(int(code))
        for book in record.books
        for code in np.argsort(-book.counts(), kind="stable")[:per_book]
        if book.counts()[code] > 0
    ]
    raised = {
        (book.hook, book.group): raised_tokens(held.model, held.codebooks, book.hook, book.group)
        for book in record.books
    }
    wanted: list[CodeName] = list(dict.fromkeys([*drawn, *common]))
    return tuple(
        code_facts(record, name, raises=raised[name.hook, name.group][name.code].tolist(), n_contexts=8, seed=seed)
        for name in wanted
    )


def _detected(
    record: CodeRecord,
    texts: Sequence[str],
    patterns: Sequence[str],
    word_sets: Mapping[str, Sequence[str]],
    acts: Mapping[str, np.ndarray],
) -> tuple[Detected, ...]:
    found: list[Detected] = []
    for pattern in patterns:
        labels = np.where(matching_tokens(record, pattern, texts), 0, -1)
        found += best_codes(record, labels, [pattern], acts, least_firings=LEAST_FIRINGS)
    if word_sets:
        labels, names = label_tokens(record, word_sets, texts)
        found += best_codes(record, labels, names, acts, least_firings=LEAST_FIRINGS)
    return tuple(found)


def _vocabulary(codes: Sequence[CodeFacts], texts: Sequence[str]) -> dict[int, str]:
    used = {token for code in codes for context in code.contexts for token in context.token_ids}
    for code in codes:
        used |= set(code.raises) | {one.token_id for one in (*code.fires_on, *code.followed_by)}
    return {token: texts[token] for token in sorted(used)}


def _read(held: Mapping[str, Any]) -> Inspection:
    values = {name: held[name] for name in Inspection.__slots__}
    values["books"] = tuple(BookFacts(**book) for book in held["books"])
    values["codes"] = tuple(_read_code(code) for code in held["codes"])
    values["transitions"] = {
        name: tuple(Pairing(**pair) for pair in pairs) for name, pairs in held["transitions"].items()
    }
    values["co_use"] = tuple(Pairing(**pair) for pair in held["co_use"])
    values["detected"] = tuple(
        Detected(one["label"], *(one[kind] and Detector(**one[kind]) for kind in ("code", "neuron")))
        for one in held["detected"]
    )
    for name in ("code_detection", "neuron_detection"):
        values[name] = tuple(
            Detection(one["unit"], one["share"], math.nan if one["auc"] is None else one["auc"]) for one in held[name]
        )
    values["vocabulary"] = {int(token): text for token, text in held["vocabulary"].items()}
    return Inspection(**values)


def _read_code(held: Mapping[str, Any]) -> CodeFacts:
    values = dict(held)
    for name in ("fires_on", "followed_by"):
        values[name] = tuple(Counted(**one) for one in held[name])
    values["raises"] = tuple(held["raises"])
    values["contexts"] = tuple(
        CodeContext(tuple(c["token_ids"]), tuple(c["active"]), c["peak"], c["document"], c["position"])
        for c in held["contexts"]
    )
    return CodeFacts(**values)
