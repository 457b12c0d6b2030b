"""What TokFSM models with codebooks do, each published figure beside ours."""

import html
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from interp.errors import ArtifactError
from interp.storage import read_json, write_json

SCHEMA_VERSION = 1
Kind = Literal["state", "pair"]
KINDS: tuple[Kind, ...] = ("state", "pair")
"""A state, as its second digit is read; a state and the digit behind it."""
LOSS_TOLERANCE, LEAST_VALID = 0.02, 0.97
"""A codebook model's loss may lie so far above the base model's; its transitions must be valid so often."""


@dataclass(frozen=True, slots=True)
class MachineScores:
    """How well a model continues walks.

    Units: loss_nats per predicted token. state_accuracy: share of a state's ten successors among the ten next states
    that the model finds likeliest. valid: the probability that a next state drawn from the model can follow.
    """

    loss_nats: float
    accuracy: float
    state_accuracy: float
    valid: float


@dataclass(frozen=True, slots=True)
class StateIntervention:
    """What codes of other states do to the next digit, put in at some hooks.

    Units: jsd is the mean Jensen-Shannon divergence from what can follow the other state, relative to that without
    intervention, which is 1; floor is that of the model in that state of its own accord. valid: probability of digits
    that can follow the other state, without and with. controls: jsd of frequency-matched random codes.
    """

    kind: Kind
    where: str
    jsd: float
    floor: float
    valid_without: float
    valid_with: float
    controls: tuple[float, ...]
    n_rows: int

    @property
    def p(self) -> float:
        """Share of controls that come as near to the other state, this one counted in."""
        return (1 + sum(control <= self.jsd for control in self.controls)) / (1 + len(self.controls))


@dataclass(frozen=True, slots=True)
class DetectorPrecision:
    """How precisely the best code of some sites tells a state, or a state with the digit behind it.

    Units: shares, means over the `n_classes` that a code tells, on walks on which none was chosen. neurons: the best of
    the base model at the recall of the code.
    """

    kind: Kind
    site: str
    codes: float
    neurons: float
    recall: float
    n_classes: int

    def cells(self) -> tuple[str, ...]:
        """Its row of the table."""
        shares = (f"{100 * share:.1f}" for share in (self.codes, self.neurons, self.recall))
        return (self.site, NAMES[self.kind], *shares, str(self.n_classes))


@dataclass(frozen=True, slots=True)
class ArmResult:
    """One model. published: loss in nats, accuracy and state accuracy in percent, NaN where not told. seconds: of its
    training steps, over all times that it was gone on with. precision: of codes and of the base model's neurons at the
    same recall, mean over `n_states` states on held-out walks; precisions: the same by site, and for pairs."""

    name: str
    published: tuple[float, float, float] | None
    scores: MachineScores
    seconds: float
    dead_share: float | None = None
    precision: tuple[float, float] | None = None
    n_states: int = 0
    interventions: tuple[StateIntervention, ...] = ()
    precisions: tuple[DetectorPrecision, ...] = ()


@dataclass(frozen=True, slots=True)
class TokFSMStudy:
    """All arms, the base model first. bayes_loss, bayes_accuracy: the best possible at this size's row length;
    bayes_at_128: at the published one."""

    size: str
    n_pairs: int
    bayes_loss: float
    bayes_accuracy: float
    bayes_at_128: tuple[float, float]
    arms: tuple[ArmResult, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def accepted(self, arm: ArmResult) -> bool | None:
        """Whether an arm is within the tolerances of the base model; None where the published one was not either."""
        base = self.arms[0].published
        if arm.published and base and arm.published[0] - base[0] > LOSS_TOLERANCE:
            return None
        near = arm.scores.loss_nats <= self.arms[0].scores.loss_nats + LOSS_TOLERANCE
        return near and arm.scores.valid >= LEAST_VALID

    def to_json(self) -> dict[str, Any]:
        """Plain values; what was not published becomes None."""
        held = asdict(self)
        for arm in held["arms"]:
            arm["published"] = arm["published"] and [None if math.isnan(x) else x for x in arm["published"]]
            for one in arm["interventions"]:
                one["controls"] = list(one["controls"])
        return {"schema_version": SCHEMA_VERSION, "study": "tokfsm", **held}

    def save(self, path: Path) -> None:
        """Write as JSON.

        Raises: StorageError.
        """
        write_json(path, self.to_json())

    @staticmethod
    def load(path: Path) -> "TokFSMStudy":
        """Read what `save` wrote.

        Raises: ArtifactError if it is missing, damaged or of another kind.
        """
        held = read_json(path)
        if not isinstance(held, dict) or held.get("study") != "tokfsm" or held.get("schema_version") != SCHEMA_VERSION:
            raise ArtifactError(f"{path}: holds no TokFSM study of version {SCHEMA_VERSION}; run the study again")
        try:
            values = {name: held[name] for name in TokFSMStudy.__slots__}
            values["arms"] = tuple(_arm(arm) for arm in held["arms"])
            values["bayes_at_128"] = tuple(held["bayes_at_128"])
            return TokFSMStudy(**values)
        except (KeyError, TypeError, ValueError):
            raise ArtifactError(f"{path}: is damaged; run the study again") from None

    def rows(self) -> list[tuple[str, ...]]:
        """Cells of the table: each figure, the published one behind it in brackets."""
        return [_cells(self, arm) for arm in self.arms]

    def precision_rows(self) -> list[tuple[str, ...]]:
        """Cells of the table of precisions: each arm by site and by what is told."""
        return [(arm.name, *one.cells()) for arm in self.arms for one in arm.precisions]

    def _repr_html_(self) -> str:
        """The table."""
        heads = "".join(f"<th>{html.escape(column)}</th>" for column in COLUMNS)
        rows = "".join(f"<tr>{''.join(f'<td>{html.escape(c)}</td>' for c in row)}</tr>" for row in self.rows())
        return f"<table><caption>TokFSM, size {self.size}</caption><tr>{heads}</tr>{rows}</table>"


NAMES: Mapping[Kind, str] = {"state": "state", "pair": "state and digit"}
PRECISION_COLUMNS = ("", "codes at", "tell", "codes, %", "neurons, %", "recall, %", "of how many")
COLUMNS = ("", "loss, nats", "accuracy, %", "state accuracy, %", "valid, %", "dead codes, %", "within tolerance")


def _cells(study: TokFSMStudy, arm: ArmResult) -> tuple[str, ...]:
    scores, told = arm.scores, arm.published or (math.nan,) * 3
    ours = (scores.loss_nats, 100 * scores.accuracy, 100 * scores.state_accuracy)
    forms = ("{:.4f} ({})", "{:.2f} ({})", "{:.2f} ({})")
    cells = [
        form.format(value, "–" if math.isnan(there) else f"{there:g}")
        for form, value, there in zip(forms, ours, told, strict=True)
    ]
    dead = "–" if arm.dead_share is None else f"{100 * arm.dead_share:.1f}"
    within = "–" if arm is study.arms[0] else {True: "yes", False: "no", None: "–"}[study.accepted(arm)]
    return (arm.name, *cells, f"{100 * scores.valid:.2f}", dead, within)


def _arm(held: Mapping[str, Any]) -> ArmResult:
    published = held["published"] and tuple(math.nan if x is None else float(x) for x in held["published"])
    interventions = tuple(
        StateIntervention(**one | {"controls": tuple(one["controls"])}) for one in held["interventions"]
    )
    precision = held["precision"] and tuple(held["precision"])
    rest = {name: held[name] for name in ("name", "seconds", "dead_share", "n_states")}
    return ArmResult(
        **rest,
        published=published,
        precision=precision,
        scores=MachineScores(**held["scores"]),
        interventions=interventions,
        # Studies of before have none.
        precisions=tuple(DetectorPrecision(**one) for one in held.get("precisions", ())),
    )
