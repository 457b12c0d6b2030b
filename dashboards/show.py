"""Runs and results in a notebook: `show(result)` as the last line of a cell."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from dashboards.activation_view import activation_figure
from dashboards.contract import headline
from dashboards.lens_page import lens_figures, render_lens
from dashboards.map_view import map_figure
from dashboards.page import render, write_report
from dashboards.run_figures import run_figures
from dashboards.run_record import RunRecord, load_run
from dashboards.shown import SHOWN, figure_of
from dashboards.theme import LIGHT, Theme
from dashboards.training_view import loss_figure
from interp.errors import ConfigError
from interp.lenses.folder import LensFolder
from interp.lenses.grid import LensGrid
from interp.runs import RunFolder

NOTEBOOK_WINDOWS = 1 << 16
"""Contexts of a page inside a notebook, which saves what it shows."""
FRAME_HEIGHT = 780


@dataclass(frozen=True, slots=True)
class RunView:
    """A run as the same page as its report, in a frame of its own; its Plotly figures by name under `figures`."""

    run: RunRecord
    figures: dict[str, go.Figure]
    folder: Path
    theme: Theme = LIGHT

    def activations(self, feature: int) -> go.Figure:
        """How strongly one feature fires.

        Raises: ConfigError if the run has no feature statistics; ShapeError if there is no such feature.
        """
        if self.run.statistics is None:
            raise ConfigError(f"{self.run.name}: got no feature statistics; run `interp features` on the run first")
        return activation_figure(self.run.statistics, feature, self.theme)

    def report(self, out: Path | None = None) -> Path:
        """Write the whole report and give its path."""
        return write_report(self.folder, out)

    def _repr_html_(self) -> str:
        """Key figures as text, so that a viewer that refuses frames shows something true, and below them the page."""
        figures = " · ".join(f"{html.escape(label)} <b>{html.escape(value)}</b>" for label, value in headline(self.run))
        frame = _frame(render(self.run, window_budget=NOTEBOOK_WINDOWS), self.run.name)
        return f"<p>{html.escape(self.run.name)}: {figures}</p>{frame}"


@dataclass(frozen=True, slots=True)
class LensView:
    """A lens run as the same page as its report, in a frame of its own; its Plotly figures by name under `figures`."""

    folder: LensFolder
    grids: tuple[LensGrid, ...]
    figures: dict[str, go.Figure]
    theme: Theme = LIGHT

    def _repr_html_(self) -> str:
        """The lens as text and below it the page."""
        name = self.folder.run.name
        page = _frame(render_lens([self.folder], self.grids), name)
        return f"<p>{html.escape(name)}: {html.escape(self.folder.config.lens)} lens</p>{page}"


def show(result: object, theme: Theme = LIGHT) -> RunView | LensView | go.Figure:
    """A run folder of an SAE or a lens, rows of metrics or a result, as what a notebook can display.

    Raises: ConfigError for anything else; ArtifactError if the folder holds no run, or one that has no page here.
    """
    if isinstance(result, LensFolder):
        return _lens_view(result, theme)
    if isinstance(result, RunFolder | str | Path):
        folder = result.path if isinstance(result, RunFolder) else Path(result)
        if RunFolder.open(folder).manifest().kind == "lens":
            return _lens_view(LensFolder.open(folder), theme)
        run = load_run(folder)
        return RunView(run, run_figures(run, theme) | _map(run, theme), folder, theme)
    if (figure := figure_of(result, theme)) is not None:
        return figure
    if _is_metrics(result):
        return loss_figure(result, theme)  # type: ignore[arg-type]
    got = "no rows" if isinstance(result, list | tuple) and not result else f"a {type(result).__name__}"
    raise ConfigError(
        f"got {got}; expected the folder of an SAE's or a lens's run, rows of metrics with a step, or one of "
        f"{', '.join(SHOWN)}"
    )


def _lens_view(folder: LensFolder, theme: Theme) -> LensView:
    grids = (LensGrid.load(folder.grid_path),) if folder.grid_path.exists() else ()
    table, divergence = folder.table(), folder.divergence()
    tables, divergences = [table] if table else [], [divergence] if divergence else []
    return LensView(folder, grids, lens_figures(tables, divergences, grids, theme), theme)


def _frame(page: str, name: str) -> str:
    # Without allow-same-origin the page can reach neither the notebook nor its server.
    return (
        f'<iframe sandbox="allow-scripts" srcdoc="{html.escape(page, quote=True)}" '
        f'title="{html.escape(name, quote=True)}" '
        f'style="width:100%;height:{FRAME_HEIGHT}px;border:1px solid #8884;border-radius:6px"></iframe>'
    )


def _map(run: RunRecord, theme: Theme) -> dict[str, go.Figure]:
    """The page draws its own map, so only a notebook has it as a figure."""
    if run.layout is None or run.statistics is None:
        return {}
    return {"map": map_figure(run.layout, run.statistics, theme)}


def _is_metrics(result: Any) -> bool:
    rows = isinstance(result, Sequence) and not isinstance(result, str)
    return rows and bool(result) and all(isinstance(row, Mapping) and "step" in row for row in result)
