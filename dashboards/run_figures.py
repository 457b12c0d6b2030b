"""Every figure that a run has the numbers for."""

from typing import Any

import plotly.graph_objects as go

from dashboards.density_view import density_figure
from dashboards.prefix_view import prefix_figure
from dashboards.run_record import RunRecord
from dashboards.theme import LIGHT, Theme
from dashboards.timeline_view import timeline_figure
from dashboards.training_view import (
    dead_figure,
    l0_figure,
    loss_figure,
    schedule_figure,
    throughput_figure,
    variance_figure,
)

TRAINING_FIGURES = {
    "loss": (loss_figure, "loss"),
    "variance": (variance_figure, "explained_variance"),
    "l0": (l0_figure, "l0"),
    "dead": (dead_figure, "dead"),
    "schedule": (schedule_figure, "lr"),
    "throughput": (throughput_figure, "tokens_per_s"),
}


def run_figures(run: RunRecord, theme: Theme = LIGHT) -> dict[str, go.Figure]:
    """Every figure that the run has the numbers for, by name."""
    metrics, statistics = run.metrics, run.statistics
    prefixes = (run.evaluation or {}).get("prefixes") or []
    block = int((run.config.get("shuffle") or {}).get("block_tokens") or 0)
    figures = {}
    if statistics is not None:
        figures["density"] = density_figure(statistics.density, statistics.level, theme)
    if len(prefixes) > 1:
        figures["prefixes"] = prefix_figure(prefixes, theme)
    for name, (view, key) in TRAINING_FIGURES.items():
        if any(key in row for row in metrics):
            figures[name] = view(metrics, theme, **({"block_tokens": block} if name == "throughput" else {}))
    if any("seconds_update" in row for row in metrics):
        figures["timeline"] = timeline_figure(metrics, theme, block_tokens=block)
    return figures


def figures_json(figures: dict[str, go.Figure]) -> dict[str, Any]:
    """Figures as the page hands them to plotly.js."""
    return {name: figure.to_plotly_json() for name, figure in figures.items()}
