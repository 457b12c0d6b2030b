"""What codebooks cost a language model and what they give: loss, codes beside neurons, steering by concepts."""

import html
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from interp.codebooks.detection import Detection
from interp.codebooks.evaluation import Interval, LanguageScores
from interp.codebooks.measured import middle, told
from interp.codebooks.steered import CodeSteering
from interp.errors import ArtifactError
from interp.storage import read_json, write_json

SCHEMA_VERSION = 1
N_DRAWS = 2000
BASE, PLAIN = "base model", "finetuned without codebooks"
PUBLISHED: Mapping[str, tuple[float, float]] = {PLAIN: (1.57, 59.27), "attn, k=8": (1.66, 57.91)}
"""Loss and accuracy in percent of TinyStories-1Layer-21M (Tamkin et al. 2023); another model and another tokenizer."""


@dataclass(frozen=True, slots=True)
class LanguageArm:
    """One model. above_plain: its loss above that of the same finetune without codebooks, with the interval over
    documents. dead_heldout, dead_training: share of codes that no looked-at, no training token chose. seconds: of the
    steps of training."""

    name: str
    seed: int
    scores: LanguageScores
    seconds: float
    above_plain: tuple[float, Interval] | None = None
    dead_heldout: float | None = None
    dead_training: float | None = None


@dataclass(frozen=True, slots=True)
class CodeSample:
    """Codes of an arm drawn by seed, and as many neurons of the finetune without codebooks, cut where they fire as
    often. Units: detection AUC; intervals over the drawn units."""

    arm: str
    codes: tuple[Detection, ...]
    neurons: tuple[Detection, ...]

    def median(self, kind: str) -> tuple[float, Interval]:
        """Median AUC of the "codes" or of the "neurons", with a bootstrap interval."""
        return _median(self.codes if kind == "codes" else self.neurons)

    def difference(self) -> tuple[float, Interval]:
        """Median AUC of codes less that of neurons; both are drawn anew."""
        return _median(self.codes, self.neurons)


def _median(*samples: tuple[Detection, ...]) -> tuple[float, Interval]:
    """Median AUC of the first sample, less that of a second one, with an interval over units that are drawn again."""
    values = [np.array([one.auc for one in sample if not math.isnan(one.auc)]) for sample in samples]
    if not all(map(len, values)):
        return math.nan, None
    draw = np.random.default_rng(0)
    medians = [np.median(draw.choice(one, (N_DRAWS, len(one))), axis=1) for one in values]
    low, high = np.quantile(medians[0] - sum(medians[1:]), (0.025, 0.975)).tolist()
    return float(np.median(values[0]) - sum(np.median(one) for one in values[1:])), (low, high)


@dataclass(frozen=True, slots=True)
class ConceptSteering:
    """Steering by all codes of a word, chosen by their precision on one half of the documents.

    precision: mean over the codes, where chosen and on the other half; base_rate: of tokens that the word follows.
    """

    concept: str
    arm: str
    n_sites: int
    base_rate: float
    precision: tuple[float, float]
    steering: CodeSteering

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        held = {name: getattr(self, name) for name in self.__slots__}
        return held | {"precision": list(self.precision), "steering": self.steering.to_json()}

    @staticmethod
    def from_json(held: Mapping[str, Any]) -> "ConceptSteering":
        """The inverse of `to_json`."""
        values = {name: held[name] for name in ConceptSteering.__slots__}
        values["steering"] = CodeSteering.from_json(held["steering"])
        values["precision"] = (float(held["precision"][0]), float(held["precision"][1]))
        return ConceptSteering(**values)

    def save(self, path: Path) -> None:
        """Write as JSON.

        Raises: StorageError.
        """
        write_json(path, {"schema_version": SCHEMA_VERSION, "kind": _CONCEPT, **self.to_json()})

    @staticmethod
    def load(path: Path) -> "ConceptSteering":
        """Read what `save` wrote.

        Raises: ArtifactError if it is missing, damaged or of another kind.
        """
        held = read_json(path)
        of = (held.get("kind"), held.get("schema_version")) if isinstance(held, dict) else None
        if of != (_CONCEPT, SCHEMA_VERSION):
            raise ArtifactError(
                f"{path}: holds no steering by a word of version {SCHEMA_VERSION}; remove it and run the study again"
            )
        try:
            return ConceptSteering.from_json(held)
        except _DAMAGED:
            raise ArtifactError(f"{path}: is damaged; remove it and run the study again") from None


_CONCEPT = "concept_steering"
_DAMAGED = (AttributeError, LookupError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class WordWithoutCodes:
    """A word that no code of an arm stands for: nothing was steered. base_rate: of tokens that the word follows."""

    concept: str
    arm: str
    n_sites: int
    base_rate: float


@dataclass(frozen=True, slots=True)
class CodebookLanguage:
    """All arms (the base model and the plain finetune first), codes beside neurons, steering, and words without it."""

    model: str
    dataset: str
    size: str
    arms: tuple[LanguageArm, ...]
    samples: tuple[CodeSample, ...]
    steerings: tuple[ConceptSteering, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    without_codes: tuple[WordWithoutCodes, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is not defined becomes None."""
        held = {name: getattr(self, name) for name in ("model", "dataset", "size")}
        held["arms"] = [asdict(arm) | {"scores": arm.scores.to_json()} for arm in self.arms]
        held["samples"] = [
            {"arm": one.arm, "codes": _told(one.codes), "neurons": _told(one.neurons), **_medians(one)}
            for one in self.samples
        ]
        held["steerings"] = [one.to_json() for one in self.steerings]
        held["without_codes"] = [asdict(one) for one in self.without_codes]
        head = {"schema_version": SCHEMA_VERSION, "study": "codebook-language"}
        return head | held | {"provenance": dict(self.provenance)}

    def save(self, path: Path) -> None:
        """Write as JSON.

        Raises: StorageError.
        """
        write_json(path, self.to_json())

    @staticmethod
    def load(path: Path) -> "CodebookLanguage":
        """Read what `save` wrote.

        Raises: ArtifactError if it is missing, damaged or of another kind.
        """
        held = read_json(path)
        told = (held.get("study"), held.get("schema_version")) if isinstance(held, dict) else None
        if told != ("codebook-language", SCHEMA_VERSION):
            raise ArtifactError(f"{path}: holds no codebook-language study of version {SCHEMA_VERSION}; run it again")
        try:
            return CodebookLanguage(
                held["model"],
                held["dataset"],
                held["size"],
                tuple(_arm(one) for one in held["arms"]),
                tuple(CodeSample(one["arm"], _read(one["codes"]), _read(one["neurons"])) for one in held["samples"]),
                tuple(ConceptSteering.from_json(one) for one in held["steerings"]),
                held["provenance"],
                tuple(WordWithoutCodes(**one) for one in held.get("without_codes", ())),
            )
        except _DAMAGED:
            raise ArtifactError(f"{path}: is damaged; run the study again") from None

    def rows(self) -> list[tuple[str, ...]]:
        """Cells of the table of models."""
        return [_cells(arm) for arm in self.arms]

    def steered_rows(self) -> list[tuple[str, ...]]:
        """Cells of STEERED_COLUMNS for every word, those without codes last."""
        return [*map(steered_row, self.steerings), *map(_row_without, self.without_codes)]

    def _repr_html_(self) -> str:
        """The table."""
        heads = "".join(f"<th>{html.escape(column)}</th>" for column in COLUMNS)
        rows = "".join(f"<tr>{''.join(f'<td>{html.escape(c)}</td>' for c in row)}</tr>" for row in self.rows())
        return f"<table><caption>{html.escape(self.model)}</caption><tr>{heads}</tr>{rows}</table>"


COLUMNS = (
    "", "seed", "loss, nats", "accuracy, %", "loss above plain", "dead, held out, %", "in training, %", "published",
)  # fmt: skip
STEERED_COLUMNS = (
    "word", "codes", "places before it", "precision", "elsewhere", "success without", "with", "random codes, 95%", "p",
    "random codes' frequency, ×",
)  # fmt: skip
COST_COLUMNS = (
    "word", "perplexity without", "with", "random codes, 95%", "JSD to the word", "random codes, 95%", "p",
)  # fmt: skip


def _cells(arm: LanguageArm) -> tuple[str, ...]:
    scores, told = arm.scores, PUBLISHED.get(arm.name)
    accuracy = scores.accuracy_interval and (100 * scores.accuracy_interval[0], 100 * scores.accuracy_interval[1])
    shares = ("–" if x is None else f"{100 * x:.1f}" for x in (arm.dead_heldout, arm.dead_training))
    return (
        arm.name,
        "–" if arm.name in (BASE, PLAIN) else str(arm.seed),
        spanned(scores.loss_nats, scores.loss_interval, 3),
        spanned(100 * scores.accuracy, accuracy, 2),
        "–" if arm.above_plain is None else spanned(*arm.above_plain, 3, sign=True),
        *shares,
        "–" if told is None else f"{told[0]:g}, {told[1]:g}%",
    )


def spanned(value: float, interval: Interval, digits: int, *, sign: bool = False) -> str:
    """A figure with its interval behind it."""
    form = f"{'+' if sign else ''}.{digits}f"
    span = "" if interval is None else f" ({interval[0]:{form}} to {interval[1]:{form}})"
    return f"{value:{form}}{span}"


def steered_row(one: ConceptSteering) -> tuple[str, ...]:
    """Cells of STEERED_COLUMNS."""
    held = one.steering
    return (
        one.concept,
        f"{len(held.codes)} ({one.arm})",
        f"{one.n_sites:,} ({one.base_rate:.2%})",
        *(f"{precision:.1%}" for precision in one.precision),
        f"{held.unsteered.success:.0%}",
        f"{held.steered.success:.0%}",
        middle([control.success for control in held.controls], ".0%"),
        f"{held.p:.3f}",
        told(held.control_frequency, ".2f"),
    )


def _row_without(one: WordWithoutCodes) -> tuple[str, ...]:
    known = (one.concept, f"no code found ({one.arm})", f"{one.n_sites:,} ({one.base_rate:.2%})")
    return known + ("–",) * (len(STEERED_COLUMNS) - len(known))


def cost_row(one: ConceptSteering) -> tuple[str, ...]:
    """Cells of COST_COLUMNS."""
    held = one.steering
    return (
        one.concept,
        f"{held.unsteered.perplexity:.1f}",
        f"{held.steered.perplexity:.1f}",
        middle([control.perplexity for control in held.controls], ".1f"),
        told(held.steered.toward),
        middle([control.toward for control in held.controls], ".3f"),
        told(held.p_toward),
    )


def _medians(one: CodeSample) -> dict[str, Any]:
    named = {"codes_median": one.median("codes"), "neurons_median": one.median("neurons")}
    named["difference"] = one.difference()
    return {name: None if math.isnan(value) else [value, between] for name, (value, between) in named.items()}


def _told(found: tuple[Detection, ...]) -> list[dict[str, Any]]:
    return [asdict(one) | {"auc": None if math.isnan(one.auc) else one.auc} for one in found]


def _read(held: list[Mapping[str, Any]]) -> tuple[Detection, ...]:
    aucs = [math.nan if one["auc"] is None else float(one["auc"]) for one in held]
    return tuple(Detection(one["unit"], one["share"], auc) for one, auc in zip(held, aucs, strict=True))


def _arm(held: Mapping[str, Any]) -> LanguageArm:
    values = {name: held[name] for name in LanguageArm.__slots__}
    values["scores"] = LanguageScores.from_json(held["scores"])
    above = held["above_plain"]
    values["above_plain"] = above and (float(above[0]), above[1] and tuple(above[1]))
    return LanguageArm(**values)
