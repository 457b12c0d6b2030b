"""Attribution against patching as one HTML file that opens offline: a table, a scatter for each direction."""

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import plotly.graph_objects as go

from dashboards.analysis_page import AnalysisPage, FigurePart, TablePart, render_analysis
from dashboards.circuit_view import agreement_figure
from dashboards.theme import Theme
from interp.attribution_check import SUMMARY, AttributionCheck
from interp.storage import write_text

_LEAD = (
    "Attribution estimates what patching a component would do from one backward pass; patching does it, component by "
    "component. Points on the line agree. Each direction is estimated by the gradient of its own run: mixing them "
    "would be wrong."
)


def write_attribution_page(checks: Sequence[AttributionCheck], path: Path) -> Path:
    """Write the page and give its path.

    Raises: StorageError if it cannot be written.
    """
    write_text(path, attribution_page(checks))
    return path


def attribution_page(checks: Sequence[AttributionCheck]) -> str:
    """The page as text."""
    figures = [
        FigurePart(
            f"check-{index}",
            f"{check.kind}, {check.direction}",
            f"{check.method}; correlation {check.correlation:.3f} over {len(check.labels):,} components",
            _drawn(check),
            380,
        )
        for index, check in enumerate(checks)
    ]
    table = TablePart("summary", "How near, and how fast", "", SUMMARY, [check.summary() for check in checks])
    model = checks[0].provenance.get("model", {}) if checks else {}
    return render_analysis(
        AnalysisPage(
            name="Attribution against patching",
            about=str(model.get("name", "")),
            lead=_LEAD,
            headline=[("pairs", str(checks[0].n_pairs))] if checks else [],
            parts=[table, *figures],
            command=shlex.join(["interp", *sys.argv[1:]]),
            provenance=[("model hash", str(model.get("content_hash")))],
        )
    )


def _drawn(check: AttributionCheck) -> Callable[[Theme], go.Figure]:
    def draw(theme: Theme) -> go.Figure:
        return agreement_figure(check.labels, check.estimated, check.measured, theme)

    return draw
