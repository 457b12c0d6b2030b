"""A run as one HTML file that opens from anywhere, without network."""

import html
from collections.abc import Iterable, Iterator
from pathlib import Path
from string import Template
from typing import Any

from plotly.offline import get_plotlyjs

from dashboards import bundle, packing
from dashboards.contract import noun, summary
from dashboards.feature_records import WINDOW_BUDGET, window_limits
from dashboards.resources import table_resources
from dashboards.run_figures import figures_json, run_figures
from dashboards.run_record import RunRecord, load_run
from dashboards.theme import DARK, LIGHT
from interp.storage import write_text


def write_report(run_folder: Path | str, out: Path | str | None = None, *, sample_seed: int = 0) -> Path:
    """Write the report of a run, by default to report.html in its folder, and give its path.

    Raises: ArtifactError if the folder holds no run or is damaged; StorageError if the page cannot be written.
    """
    run = load_run(run_folder)
    path = Path(out) if out is not None else Path(run_folder) / "report.html"
    write_text(path, render(run, sample_seed=sample_seed))
    return path


def render(run: RunRecord, *, sample_seed: int = 0, window_budget: int = WINDOW_BUDGET) -> str:
    """The whole page as text; `window_budget` bounds how many contexts it holds."""
    told = summary(run, sample_seed=sample_seed, figures=list(run_figures(run))) | {"packing": packing.packing_facts()}
    resources = dict(_resources(run, window_budget))
    return Template(bundle.read_web("page.html")).substitute(
        title=html.escape(f"{run.name}: {noun(run)} report"),
        styles=bundle.styles(),
        script=bundle.script(),
        summary=packing.as_json(told),
        resources="\n".join(packing.script_element(name, packed) for name, packed in resources.items()),
    )


def _resources(run: RunRecord, window_budget: int) -> Iterator[tuple[str, str]]:
    """Packed, in the order of need: a browser can read the first ones while the rest still arrives."""
    s = run.statistics
    if s is not None:
        yield from _packed((name, make()) for name, make in table_resources(run, s).items())
    yield from _packed((f"figures-{theme.name}", figures_json(run_figures(run, theme))) for theme in (LIGHT, DARK))
    yield "plotly", packing.compressed(get_plotlyjs().encode("utf-8"))
    if s is not None:
        yield from _packed(packing.pack_features(s, limits=window_limits(s, window_budget)))


def _packed(resources: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, str]]:
    return ((name, packing.pack_json(value)) for name, value in resources)
