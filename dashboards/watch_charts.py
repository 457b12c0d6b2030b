"""Which charts a run in training has: those whose metrics it writes."""

from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from typing import Any

from dashboards.training_view import PREFIX_KEY
from dashboards.watch_rows import SMOOTHED_ROWS, STATIC
from interp.health.expected import Expected

MOST_OTHERS = 8
_TITLES = {"aux": "Loss of the dead features (AuxK)"}
_SECONDS = tuple(f"seconds_{part}" for part in ("harvest", "text", "ahead", "shuffle", "update"))
_HIDDEN = ("tokens_per_s", *_SECONDS, "mse", "fallbacks")


@dataclass(frozen=True, slots=True)
class Line:
    """One metric in a chart."""

    key: str
    label: str
    colour: str
    """Name of a colour of the style sheet."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A level that the metric is held to."""

    value: float
    label: str


@dataclass(frozen=True, slots=True)
class Chart:
    """One figure. `kind` says how values are written (web/format.js)."""

    name: str
    title: str
    lines: tuple[Line, ...]
    kind: str = "number"
    axis: str = "auto"
    """auto, zero (begins there), log (where values differ fivefold) or stack (shares that add up to one)."""
    marks: tuple[Mark, ...] = field(default=())
    floor: float | None = None
    """What lies below is drawn at this value, so that one bad moment does not flatten the rest; the chart says so."""
    note: str = ""
    """What stands below the title."""


def charts(keys: Collection[str], expected: Expected) -> list[dict[str, Any]]:
    """The charts of a run that writes these metrics, in the order of a reader's questions."""
    found, unused = [], () if expected.has_threshold else ("threshold",)
    for chart in [_loss(keys), *_fixed(keys, expected)]:
        lines = tuple(line for line in chart.lines if line.key in keys and line.key not in unused)
        if lines:
            found.append(asdict(chart) | {"lines": [asdict(line) for line in lines]})
    shown = {line["key"] for chart in found for line in chart["lines"]} | {*_HIDDEN, *STATIC, *unused}
    others = [key for key in keys if key not in shown][:MOST_OTHERS]
    return [*found, *(asdict(Chart(key, _title(key), (Line(key, "", "accent"),))) for key in others)]


def _title(key: str) -> str:
    return _TITLES.get(key, key.replace("_", " ").capitalize())


def _loss(keys: Collection[str]) -> Chart:
    widths = sorted(int(key.removeprefix(PREFIX_KEY)) for key in keys if key.startswith(PREFIX_KEY))
    if not widths:
        return Chart("loss", "Loss", (Line("loss", "", "accent"),), axis="log")
    steps = [round(place * 4 / max(1, len(widths) - 1)) for place in range(len(widths))]
    lines = [Line(f"{PREFIX_KEY}{w}", f"{w:,}", f"level-{s}") for w, s in zip(widths, steps, strict=True)]
    return Chart("loss", "Loss, total and by prefix", (Line("loss", "total", "ink"), *lines), axis="log")


def _fixed(keys: Collection[str], expected: Expected) -> list[Chart]:
    target = expected.k or expected.l0_target
    wanted = (Mark(target, "k" if expected.k else "target"),) if target else ()
    clip = (Mark(expected.clip_norm, "clipped to"),) if expected.clip_norm > 0 else ()
    return [
        Chart("variance", "Explained variance", (Line("explained_variance", "", "accent"),), "precise", floor=-1.0),
        Chart("l0", "L0", (Line("l0", "", "accent"),), axis="zero", marks=wanted),
        Chart(
            "dead", "Dead and dense features" if "dense" in keys else "Dead features",
            (Line("dead", "dead", "down"), Line("dense", "dense", "up")), kind="count", axis="zero",
        ),
        Chart("gradient", "Gradient norm", (Line("grad_norm", "", "accent"),), axis="log", marks=clip),
        Chart("threshold", "Threshold", (Line("threshold", "", "accent"),), axis="zero"),
        Chart(
            "pace", "Tokens per second", (Line("pace", "", "accent"),), kind="count", axis="zero",
            note=_averaged(expected),
        ),
        Chart(
            "time", "Where the time goes",
            (Line("share_update", "step", "level-1"), Line("share_shuffle", "shuffle", "level-4"),
             Line("share_text", "text", "muted"), Line("share_harvest", "model", "level-3")),
            kind="share", axis="stack", note=_averaged(expected),
        ),
        Chart("rate", "Learning rate", (Line("lr", "", "accent"),), axis="zero"),
    ]  # fmt: skip


def _averaged(expected: Expected) -> str:
    """The model runs once a block; `Pace` evens that out."""
    blocks = f" and {2 * expected.block_tokens:,} tokens" if expected.block_tokens else ""
    return f"means of the last {SMOOTHED_ROWS} intervals or more{blocks}"
