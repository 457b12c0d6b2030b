"""A run as one HTML file that opens from anywhere, without network."""

import html
from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from dashboards import bundle, packing
from dashboards.contract import Json, summary
from dashboards.density_view import density_figure
from dashboards.feature_contract import feature_table, used_tokens
from dashboards.prefix_view import prefix_figure
from dashboards.run_record import RunRecord, load_run
from dashboards.theme import DARK, LIGHT, Theme
from dashboards.training_view import (
    dead_figure,
    l0_figure,
    loss_figure,
    schedule_figure,
    throughput_figure,
    variance_figure,
)
from interp.storage import write_text

TRAINING_FIGURES = {
    "loss": (loss_figure, "loss"),
    "variance": (variance_figure, "explained_variance"),
    "l0": (l0_figure, "l0"),
    "dead": (dead_figure, "dead"),
    "schedule": (schedule_figure, "lr"),
    "throughput": (throughput_figure, "tokens_per_s"),
}


def write_report(run_folder: Path | str, out: Path | str | None = None, *, sample_seed: int = 0) -> Path:
    """Write the report of a run, by default to report.html in its folder, and give its path.

    Raises: ArtifactError if the folder holds no run or is damaged; StorageError if the page cannot be written.
    """
    run = load_run(run_folder)
    path = Path(out) if out is not None else Path(run_folder) / "report.html"
    write_text(path, render(run, sample_seed=sample_seed))
    return path


def render(run: RunRecord, *, sample_seed: int = 0) -> str:
    """The whole page as text."""
    figures = {theme.name: run_figures(run, theme) for theme in (LIGHT, DARK)}
    limit = packing.contexts_per_feature(run.statistics.d_sae) if run.statistics is not None else 0
    told = summary(run, sample_seed=sample_seed, figures=list(figures["light"])) | {
        "packing": packing.packing_facts(limit)
    }
    resources = {name: packing.pack_json(value) for name, value in _resources(run, figures, limit)}
    resources["plotly"] = packing.compressed(get_plotlyjs().encode("utf-8"))
    return Template(bundle.read_web("page.html")).substitute(
        title=html.escape(f"{run.name}: SAE report"),
        styles=bundle.styles(),
        script=bundle.script(),
        summary=packing.as_json(told),
        resources="\n".join(packing.script_element(name, packed) for name, packed in resources.items()),
    )


def run_figures(run: RunRecord, theme: Theme = LIGHT) -> dict[str, go.Figure]:
    """Every figure that the run has the numbers for, by name."""
    metrics, statistics = run.metrics, run.statistics
    prefixes = (run.evaluation or {}).get("prefixes") or []
    figures = {}
    if statistics is not None:
        figures["density"] = density_figure(statistics.density, statistics.level, theme)
    if len(prefixes) > 1:
        figures["prefixes"] = prefix_figure(prefixes, theme)
    for name, (view, key) in TRAINING_FIGURES.items():
        if any(key in row for row in metrics):
            figures[name] = view(metrics, theme)
    return figures


def _resources(run: RunRecord, figures: dict[str, dict[str, go.Figure]], limit: int) -> Iterator[tuple[str, Any]]:
    """In the order of need: a browser can read the first ones while the rest still arrives."""
    if run.statistics is not None:
        yield "table", feature_table(run.statistics)
        yield "vocabulary", packing.vocabulary(used_tokens(run.statistics), run.token_texts)
        yield from packing.pack_features(run.statistics, limit=limit)
    for name, drawn in figures.items():
        yield f"figures-{name}", _figures_json(drawn)


def _figures_json(figures: dict[str, go.Figure]) -> Json:
    return {name: figure.to_plotly_json() for name, figure in figures.items()}
