"""Runs and results in a notebook: `show(result)` as the last line of a cell."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from dashboards.contract import headline
from dashboards.density_view import density_figure
from dashboards.page import run_figures, write_report
from dashboards.run_record import RunRecord, load_run
from dashboards.theme import LIGHT, Theme
from dashboards.training_view import loss_figure
from interp.errors import ConfigError
from interp.runs import RunFolder
from saes.features import FeatureStatistics


@dataclass(frozen=True, slots=True)
class RunView:
    """A run's key figures as a table; its Plotly figures by name under `figures`."""

    run: RunRecord
    figures: dict[str, go.Figure]
    folder: Path

    def report(self, out: Path | None = None) -> Path:
        """Write the whole report and give its path."""
        return write_report(self.folder, out)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(label)}</th><td>{html.escape(value)}</td></tr>"
            for label, value in headline(self.run)
        )
        figures = ", ".join(self.figures) or "none"
        return f"<table><caption>{html.escape(self.run.name)}</caption>{rows}</table><p>Figures: {figures}.</p>"


def show(result: object, theme: Theme = LIGHT) -> RunView | go.Figure:
    """A run folder, feature statistics or rows of metrics, as what a notebook can display.

    Raises: ConfigError for anything else; ArtifactError if the folder holds no run.
    """
    if isinstance(result, RunFolder | str | Path):
        folder = result.path if isinstance(result, RunFolder) else Path(result)
        run = load_run(folder)
        return RunView(run, run_figures(run, theme), folder)
    if isinstance(result, FeatureStatistics):
        return density_figure(result.density, result.level, theme)
    if _is_metrics(result):
        return loss_figure(result, theme)  # type: ignore[arg-type]
    raise ConfigError(f"got a {type(result).__name__}; expected a run folder, FeatureStatistics or rows of metrics")


def _is_metrics(result: Any) -> bool:
    rows = isinstance(result, Sequence) and not isinstance(result, str)
    return rows and all(isinstance(row, Mapping) and "step" in row for row in result)
