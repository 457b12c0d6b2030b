"""The result of looking at a run's codes: codebooks, codes, pairs, patterns, and a draw beside neurons."""

import html
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from interp.codebooks.detection import Detection, code_detections, draw_codes
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
from interp.codebooks.measured import told
from interp.codebooks.names import CodeName
from interp.codebooks.neurons import iter_neurons
from interp.codebooks.precision import LEAST_FIRINGS, Detected, Detector, best_codes_of
from interp.codebooks.record import CodeRecord, record_codes
from interp.codebooks.rivals import rival_model, rivals_of
from interp.codebooks.search import expression_of, label_tokens, matching_tokens
from interp.datasets import TokenStream, open_stream
from interp.errors import ArtifactError
from interp.storage import read_json, write_json

SCHEMA_VERSION = 1
N_TABLE, N_DRAWN, N_PAIRS = 100, 30, 12
Tell = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a run's codes are about, on text that it was not trained on where some is held out.

    `codes` are the most frequent ones of each codebook and those drawn by seed for detection; `detected` tells how well
    the best code of each label does beside the best neuron at its recall. `dataset` is the text that was looked at, of
    which `split` is "heldout", "all" (with what training read), or "other" for text that training had no part of;
    `neurons_of` the model whose neurons are the rivals.
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
    dataset: str = ""
    split: str = ""
    neurons_of: str = ""

    @property
    def text(self) -> str:
        """What was looked at, as a phrase."""
        kinds = {
            "heldout": "held-out text of {}",
            "all": "text of {}, which training read too",
            "other": "text of {}, another than that of training",
        }
        return kinds.get(self.split, "text that is not recorded").format(self.dataset)

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
        if held.get("schema_version") != SCHEMA_VERSION:
            raise ArtifactError(f"{path}: is of another version than {SCHEMA_VERSION}; inspect the run again")
        try:
            return _read(held)
        except (AttributeError, KeyError, TypeError, ValueError):
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


def detected_rows(result: Inspection) -> list[tuple[str, ...]]:
    """Cells for each label: code, precision, recall, neuron, its precision, tokens to find; spaces can be seen."""
    return [
        (
            one.label.replace(" ", "␣"),
            *((one.code.unit, told(one.code.precision), told(one.code.recall)) if one.code else ("none", "–", "–")),
            *((one.neuron.unit, told(one.neuron.precision)) if one.neuron else ("–", "–")),
            f"{one.code.n_positives:,}" if one.code else "–",
        )
        for one in result.detected
    ]


def inspect_run(
    held: CodebookModel,
    texts: Sequence[str],
    *,
    n_tokens: int = 100_000,
    dataset: str | None = None,
    patterns: Sequence[str] = (),
    word_sets: Mapping[str, Sequence[str]] | None = None,
    seed: int = 0,
    neurons: CodebookModel | None = None,
    provenance: Mapping[str, Any] | None = None,
    on_progress: Tell | None = None,
) -> tuple[Inspection, CodeRecord]:
    """One pass with the codebooks at work, and others for the neurons; the record is what searching asks.

    `texts` is what each token id adds to a text. Neurons are those of the base model, or of a plain finetune `neurons`:
    with its codebooks taken out, the finetuned model is one that nobody trained.
    Raises: DataError without usable text; ConfigError for a bad pattern or neurons of another base model.
    """
    tell = on_progress or (lambda *_: None)
    config = held.config
    for pattern in patterns:
        expression_of(pattern)
    rival, neurons_of = rival_model(held, neurons)
    dataset = dataset or config.dataset
    stream, kind = _text_of(held, dataset)
    tell("looking at codes", 0, 4)
    record = record_codes(held.model, held.codebooks, stream.iter_pass(), n_tokens=n_tokens)
    record = replace(record, source={"model": held.model.content_hash, "dataset": dataset, "split": stream.split})
    tell("looking at codes", 1, 4)
    drawn = code_detections(record, N_DRAWN, seed=seed)
    rivals = rivals_of(rival, stream, record, [one.share for one in drawn], seed)
    tell("looking at codes", 2, 4)
    every = iter_neurons(rival, stream.iter_pass, n_tokens=len(record))
    detected = _detected(record, texts, patterns, word_sets or {}, every)
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
        tuple(sorted(pairs, key=lambda pair: -pair.weight)[: 2 * N_PAIRS]),
        detected,
        drawn,
        rivals,
        _vocabulary(codes, texts),
        dict(provenance or {}),
        dataset,
        kind,
        neurons_of,
    )
    tell("looking at codes", 4, 4)
    return result, record


def _text_of(held: CodebookModel, dataset: str) -> tuple[TokenStream, str]:
    """The text that is looked at, and what it is to training: under another name, or as a copy, it stays the same."""
    config = held.config
    stream = open_stream(dataset, held.model, config.data, split=config.data.judged_split)
    trained = held.folder.run.manifest().data.get("content_hash")
    if stream.documents.content_hash == trained or Path(dataset).resolve() == Path(config.dataset).resolve():
        return stream, stream.split
    return stream.with_split("all"), "other"


def _codes(held: CodebookModel, record: CodeRecord, seed: int) -> tuple[CodeFacts, ...]:
    drawn = [record.books[b].code(code) for b, code in draw_codes(record, N_DRAWN, seed=seed)]
    per_book = max(1, N_TABLE // max(len(record.books), 1))
    common = [
        book.code(int(code))
        for book in record.books
        for code in np.argsort(-book.counts(), kind="stable")[:per_book]
        if book.counts()[code] > 0
    ]
    wanted: list[CodeName] = list(dict.fromkeys([*drawn, *common]))
    raised: dict[CodeName, list[int]] = {}
    for book in record.books:
        own = [name for name in wanted if (name.hook, name.group) == (book.hook, book.group)]
        found = raised_tokens(held.model, held.codebooks, book.hook, book.group, codes=[name.code for name in own])
        raised |= zip(own, found.tolist(), strict=True)
    return tuple(code_facts(record, name, raises=raised[name], n_contexts=8, seed=seed) for name in wanted)


def _detected(
    record: CodeRecord,
    texts: Sequence[str],
    patterns: Sequence[str],
    word_sets: Mapping[str, Sequence[str]],
    neurons: Iterable[tuple[str, np.ndarray]],
) -> tuple[Detected, ...]:
    tasks: list[tuple[np.ndarray, Sequence[str]]] = [
        (np.where(matching_tokens(record, pattern, texts), 0, -1), [pattern]) for pattern in patterns
    ]
    if word_sets:
        tasks.append(label_tokens(record, word_sets, texts))
    return best_codes_of(record, tasks, neurons if tasks else (), least_firings=LEAST_FIRINGS)


def _vocabulary(codes: Sequence[CodeFacts], texts: Sequence[str]) -> dict[int, str]:
    used = {token for code in codes for context in code.contexts for token in context.token_ids}
    for code in codes:
        used |= set(code.raises) | {one.token_id for one in (*code.fires_on, *code.followed_by)}
    return {token: texts[token] for token in sorted(used)}


def _read(held: Mapping[str, Any]) -> Inspection:
    values = {name: held[name] for name in Inspection.__slots__ if name in held}
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
