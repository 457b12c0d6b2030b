"""Steering by every code of a word: chosen on one half of the documents, held against random codes as frequent.

Axes: n tokens.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from interp.codebooks.files import CodebookModel
from interp.codebooks.inspection import contingency
from interp.codebooks.language_results import ConceptSteering, WordWithoutCodes
from interp.codebooks.names import CodeName
from interp.codebooks.precision import halves
from interp.codebooks.record import CodeRecord
from interp.codebooks.steering import Progress, steer_codes
from interp.codebooks.toward import before_matches, mean_prediction, neutral_texts
from interp.datasets import TokenStream
from interp.errors import DataError
from interp.models import Model
from interp.prompts import encode_prompts
from interp.storage import make_folder

LEAST_LIFT = 4.0
"""A code of a word is, by the lower bound of its precision, this many times as precise as the base rate."""
MOST_CODES = 64
"""Codes that stand for a word at once; more of them leave little of the model's own."""
_Z = 1.645
_SHOWN = 40
"""Letters of a word that a file's name begins with."""


@dataclass(frozen=True, slots=True)
class ConceptCodes:
    """All codes of a word. precision: mean over them, where they were chosen and on the other half."""

    codes: tuple[CodeName, ...]
    precision: tuple[float, float]


def word_pattern(word: str) -> str:
    """A regular expression for a word or its plural, on its own, in either case."""
    return rf"(?i)\b{re.escape(word)}s?\b"


def word_sites(record: CodeRecord, word: str, texts: Sequence[str]) -> Bool[ndarray, " n"]:
    """Tokens directly before one with which the word begins: there the model is about to say it."""
    return before_matches(record, re.compile(word_pattern(word)), texts)


def concept_codes(
    record: CodeRecord, wanted: Bool[ndarray, " n"], *, per_book: int, least_lift: float, most: int = MOST_CODES
) -> ConceptCodes:
    """The codes that are surest to be precise, from all codebooks, up to `per_book` from each and `most` in all.

    Ranked by the lower end of the interval of their precision on even documents: the best of thousands of codes that
    were active a few times looks precise by luck.
    Raises: DataError if there is none.
    Source: Wilson 1927 (the interval, one-sided 95%).
    """
    fit, judge = halves(record)
    kind = np.where(wanted, 0, 1)
    base = float(wanted[fit].mean())
    found: list[tuple[float, CodeName, float, float]] = []
    for book in record.books:
        chosen, judged = (contingency(book, np.where(half, kind, -1), 2) for half in (fit, judge))
        n = np.maximum(chosen.sum(1), 1)
        precision = chosen[:, 0] / n
        lower = lower_bound(precision, n)
        best = np.argsort(-lower, kind="stable")[:per_book]
        elsewhere = judged[:, 0] / np.maximum(judged.sum(1), 1)
        found += [
            (float(lower[code]), book.code(int(code)), float(precision[code]), float(elsewhere[code]))
            for code in best
            if chosen[code, 0] and lower[code] >= least_lift * base
        ]
    found = sorted(found, key=lambda one: -one[0])[:most]
    if not found:
        raise DataError(
            f"got {int(wanted[fit].sum())} places before the word and no code for them; choose a commoner word or give "
            "more text"
        )
    means = np.mean([one[2:] for one in found], axis=0).tolist()
    return ConceptCodes(tuple(one[1] for one in found), (means[0], means[1]))


def lower_bound(share: Float[ndarray, " n"], count: Int[ndarray, " n"]) -> Float[ndarray, " n"]:
    """Lower end of Wilson's interval of shares that were counted in so many trials."""
    spread = _Z * np.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
    return np.asarray((share + _Z**2 / (2 * count) - spread) / (1 + _Z**2 / count))


@dataclass(frozen=True, slots=True)
class Scene:
    """What steering needs of an arm: its model, the record of its codes, the text of both, and how much to write."""

    held: CodebookModel
    arm: str
    record: CodeRecord
    stream: TokenStream
    texts: Sequence[str]
    prompt: str
    n_texts: int
    new_tokens: int
    n_controls: int
    seed: int

    def file_name(self, word: str) -> str:
        """A name for a word's steering that no other steering has: everything that decides it is in it."""
        decides = [
            word, self.prompt, self.arm, self.held.model.content_hash, self.record.content_hash, self.n_texts,
            self.new_tokens, self.n_controls, self.seed,
        ]  # fmt: skip
        # File systems take names of 255 bytes; what is left out of the word is in the digest.
        return f"{word[:_SHOWN]}_{hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:12]}.json"


def check_prompt(model: Model, prompt: str) -> None:
    """Raises: DataError for a prompt behind which there is no room to write, or without a token."""
    n_tokens = encode_prompts(model, [prompt]).token_ids.shape[1]
    if n_tokens >= model.context_size:
        raise DataError(f"got a prompt of {n_tokens} tokens, which fills the context; shorten it")


def kept_steering(
    scene: Scene, word: str, folder: Path, *, on_progress: Progress | None = None
) -> ConceptSteering | WordWithoutCodes:
    """A word's steering from the folder, or else done now and put there.

    Raises: ArtifactError if the file is damaged.
    """
    path = folder / scene.file_name(word)
    if path.exists():
        return ConceptSteering.load(path)
    found = steer_concept(scene, word, on_progress=on_progress)
    if isinstance(found, ConceptSteering):
        make_folder(folder)
        found.save(path)
    return found


def steer_concept(
    scene: Scene, word: str, *, on_progress: Progress | None = None
) -> ConceptSteering | WordWithoutCodes:
    """Activate all codes of a word at every token: is it then written more often than with random codes?"""
    held, record = scene.held, scene.record
    wanted = word_sites(record, word, scene.texts)
    told = (word, scene.arm, int(wanted.sum()), float(wanted.mean()))
    quantiser = next(one for _, one in held.codebooks.items())
    # Some of the model's own codes stay, where several are active; and as many are left to draw random ones from.
    per_book = max(1, min(quantiser.k - 2, quantiser.n_codes // 2))
    try:
        chosen = concept_codes(record, wanted, per_book=per_book, least_lift=LEAST_LIFT)
    except DataError:
        return WordWithoutCodes(*told)
    judged = wanted & halves(record)[1]
    steering = steer_codes(
        held.model, held.codebooks, record, chosen.codes, scene.prompt, word_pattern(word),
        neutral=neutral_texts(held, scene.stream), where="all", n_texts=scene.n_texts, new_tokens=scene.new_tokens,
        n_controls=scene.n_controls, seed=scene.seed, on_progress=on_progress,
        target=mean_prediction(held, scene.stream, record, judged) if judged.any() else None,
    )  # fmt: skip
    return ConceptSteering(*told, chosen.precision, steering)
