"""Lens runs as one HTML file that opens from anywhere, without network."""

import html
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from dashboards import bundle, packing
from dashboards.lens_view import divergence_figure, grid_figure, precision_figure, surprisal_figure
from dashboards.run_figures import figures_json
from dashboards.theme import DARK, LIGHT, Theme
from interp.errors import ArtifactError
from interp.lenses.divergence import LensDivergence
from interp.lenses.folder import LensFolder
from interp.lenses.grid import LensGrid
from interp.lenses.logit import layer_name
from interp.lenses.table import MODES, LensRow, LensTable
from interp.storage import write_text

STYLES = ("base.css", "layout.css", "overview.css", "lens.css")
ENTRY = "lens.js"


def write_lens_report(
    run_folders: Sequence[Path], grids: Sequence[LensGrid], out: Path | None = None, *, table: LensTable | None = None
) -> Path:
    """Write lens runs as one page, by default to report.html in the first, and give its path; `table` replaces theirs.

    Raises: ArtifactError if a folder holds no lens run or is damaged, or the table is of another model; StorageError if
    the page cannot be written.
    """
    folders = [LensFolder.open(path) for path in run_folders]
    if table is not None:
        _check_same_model(table, folders[0])
    path = out or folders[0].run.report_path
    write_text(path, render_lens(folders, grids, table=table))
    return path


def _check_same_model(table: LensTable, folder: LensFolder) -> None:
    was, model = table.provenance.get("model", {}), folder.run.manifest().model
    if was.get("content_hash") != model.get("content_hash"):
        raise ArtifactError(
            f"--table: was measured on model {was.get('name')}; {folder.run.name} is of {model.get('name')}, whose "
            "content differs; give a table of the same model"
        )


def render_lens(folders: Sequence[LensFolder], grids: Sequence[LensGrid], *, table: LensTable | None = None) -> str:
    """The whole page as text."""
    tables = [held for folder in folders if (held := table or folder.table()) is not None]
    divergences = [found for folder in folders if (found := folder.divergence()) is not None]
    told = _summary(folders, tables, divergences, grids)
    resources = {
        f"figures-{theme.name}": packing.pack_json(figures_json(lens_figures(tables, divergences, grids, theme)))
        for theme in (LIGHT, DARK)
    }
    resources["plotly"] = packing.compressed(get_plotlyjs().encode("utf-8"))
    return Template(bundle.read_web("page.html")).substitute(
        title=html.escape(f"{told['name']}: lenses"),
        styles=bundle.styles(STYLES),
        script=bundle.script(ENTRY),
        summary=packing.as_json(told),
        resources="\n".join(packing.script_element(key, packed) for key, packed in resources.items()),
    )


def lens_figures(
    tables: Sequence[LensTable], divergences: Sequence[LensDivergence], grids: Sequence[LensGrid], theme: Theme = LIGHT
) -> dict[str, go.Figure]:
    """Every figure that there are numbers for, by name."""
    figures = {f"grid-{index}": grid_figure(grid, theme) for index, grid in enumerate(grids)}
    for table in tables[:1]:
        for mode in MODES:
            figures[f"precision-{mode}"] = precision_figure(table, theme, mode=mode)
            figures[f"surprisal-{mode}"] = surprisal_figure(table, theme, mode=mode)
    for found in divergences[:1]:
        figures["divergence"] = divergence_figure(found, theme)
    return figures


def _summary(
    folders: Sequence[LensFolder],
    tables: Sequence[LensTable],
    divergences: Sequence[LensDivergence],
    grids: Sequence[LensGrid],
) -> dict[str, Any]:
    first = folders[0].run.manifest()
    return {
        "contract_version": 1,
        "name": folders[0].run.name,
        "model": first.model.get("name"),
        "grids": [_grid(grid) for grid in grids],
        "table": _table(tables[0]) if tables else None,
        "divergence": _divergence(divergences[0]) if divergences else None,
        "command": "\n".join(folder.run.manifest().command for folder in folders),
        "provenance": list(_provenance(folders)),
    }


def _grid(grid: LensGrid) -> dict[str, Any]:
    held = grid.to_json()
    names = ("method", "tokens", "top", "probability", "vocabulary")
    return {name: held[name] for name in names} | {"layers": [layer_name(hook) for hook in grid.hooks]}


def _table(table: LensTable) -> dict[str, Any]:
    rows = [_row(row) for row in table.rows]
    settings = {"decoding": table.decoding, "n_distances": table.n_distances, "modes": list(MODES)}
    return settings | {"rows": rows, "reconstructed": [layer_name(hook) for hook in _reconstructed(table)]}


def _reconstructed(table: LensTable) -> Sequence[str]:
    """Hooks at which lenses read a dictionary's reconstruction instead of the states."""
    hooks: Sequence[str] = table.provenance.get("reconstructed", ())
    return hooks


def _row(row: LensRow) -> dict[str, Any]:
    figures = [*row.precision, row.surprisal]
    return {
        "arm": row.arm,
        "mode": row.mode,
        "layer": None if row.hook is None else layer_name(row.hook),
        "distance": row.distance,
        "n": row.n_examples,
        "figures": [None if figure.value != figure.value else [figure.value, figure.interval] for figure in figures],
    }


def _divergence(found: LensDivergence) -> dict[str, Any]:
    layers = [
        [layer_name(x.hook), [x.logit, x.logit_interval], [x.tuned, x.tuned_interval],
         [x.difference, x.difference_interval]]
        for x in found.layers
    ]  # fmt: skip
    return {"layers": layers, "n_tokens": found.n_tokens, "n_documents": found.n_documents}


def _provenance(folders: Sequence[LensFolder]) -> Iterator[list[str]]:
    for folder in folders:
        manifest = folder.run.manifest()
        facts: Mapping[str, Any] = {
            "run": folder.run.name,
            "lens": folder.config.lens,
            "model hash": manifest.model.get("content_hash"),
            "data": manifest.data.get("dataset"),
            "data hash": manifest.data.get("content_hash"),
            "started (UTC)": manifest.created_utc,
            "commit": manifest.commit,
            "seed": manifest.seed,
            "versions": ", ".join(f"{key} {value}" for key, value in manifest.versions.items()),
        }
        yield from ([key, str(value)] for key, value in facts.items() if value not in (None, ""))
