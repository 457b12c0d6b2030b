"""One analysis as an HTML file that opens without network: figures, tables and evidence, light or dark."""

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from string import Template
from typing import Any, Literal

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from dashboards import bundle, packing
from dashboards.run_figures import figures_json
from dashboards.theme import DARK, LIGHT, Theme

STYLES = ("base.css", "layout.css", "overview.css", "feature.css", "analysis.css")
ENTRY = "analysis.js"


@dataclass(frozen=True, slots=True)
class FigurePart:
    """A figure, drawn in both appearances. Units: height in pixels."""

    name: str
    title: str
    note: str
    draw: Callable[[Theme], go.Figure]
    height: int = 320


@dataclass(frozen=True, slots=True)
class TablePart:
    """A table; `text` are the columns of words, `leads` the evidence that a row's first cell goes to."""

    name: str
    title: str
    note: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    text: Sequence[int] = (0,)
    leads: Sequence[str | None] = ()
    kind: Literal["table"] = "table"


@dataclass(frozen=True, slots=True)
class EvidencePart:
    """Tokens in context: features with {id, title, note, contexts}, contexts as web/analysis.js reads them."""

    name: str
    title: str
    note: str
    features: Sequence[Mapping[str, Any]]
    kind: Literal["evidence"] = "evidence"


Part = FigurePart | TablePart | EvidencePart


@dataclass(frozen=True, slots=True)
class AnalysisPage:
    """What a page says, from its head to where it comes from. `provenance` are (name, value)."""

    name: str
    about: str
    lead: str
    headline: Sequence[tuple[str, str]]
    parts: Sequence[Part]
    command: str
    provenance: Sequence[tuple[str, str]] = field(default_factory=tuple)


def render_analysis(page: AnalysisPage) -> str:
    """The whole page as text."""
    drawn = [part for part in page.parts if isinstance(part, FigurePart)]
    resources = {
        f"figures-{theme.name}": packing.pack_json(figures_json({part.name: part.draw(theme) for part in drawn}))
        for theme in (LIGHT, DARK)
    }
    resources["plotly"] = packing.compressed(get_plotlyjs().encode("utf-8"))
    return Template(bundle.read_web("page.html")).substitute(
        title=html.escape(page.name),
        styles=bundle.styles(STYLES),
        script=bundle.script(ENTRY),
        summary=packing.as_json(_summary(page)),
        resources="\n".join(packing.script_element(name, packed) for name, packed in resources.items()),
    )


def _summary(page: AnalysisPage) -> dict[str, Any]:
    return {
        "contract_version": 1,
        "name": page.name,
        "about": page.about,
        "lead": page.lead,
        "headline": [list(pair) for pair in page.headline],
        "parts": [_told(part) for part in page.parts],
        "command": page.command,
        "provenance": [list(pair) for pair in page.provenance],
    }


def _told(part: Part) -> dict[str, Any]:
    if isinstance(part, FigurePart):
        return {"kind": "figure"} | {key: getattr(part, key) for key in ("name", "title", "note", "height")}
    return asdict(part)
