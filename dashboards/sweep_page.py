"""A sweep as one HTML file that opens from anywhere, without network."""

import html
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from dashboards import bundle, packing
from dashboards.run_figures import figures_json
from dashboards.sweep_view import cost_figure, curves_figure, frontier_figure, likeness_figure, survival_figure
from dashboards.theme import DARK, LIGHT, Theme
from interp.errors import ArtifactError
from interp.storage import read_json, write_text
from saes.sweep_folder import SweepFolder
from saes.sweep_pairs import SeedPair
from saes.sweep_results import MemberScore, SweepResults


def write_sweep_report(path: Path | str) -> Path:
    """Write sweep_report.html into a sweep's folder from its sweep_results.json, and give its path.

    Raises: ArtifactError if there are no results or they are damaged; StorageError if it cannot be written.
    """
    folder = SweepFolder.open(path)
    if not folder.results_path.exists():
        raise ArtifactError(f"{folder.results_path}: not there yet; `interp sweep --report {path}` measures first")
    results = SweepResults.from_json(read_json(folder.results_path))
    reports = {m.name for m in results.members if folder.run(m.name).report_path.exists()}
    write_text(folder.report_path, render_sweep(results, folder.path.resolve().name, reports=reports))
    return folder.report_path


def render_sweep(results: SweepResults, name: str, *, reports: set[str] | None = None) -> str:
    """The whole page as text; `reports` are the members that have a page of their own."""
    summary = sweep_summary(results, name, reports=reports or set())
    resources = {
        f"figures-{theme.name}": packing.pack_json(figures_json(sweep_figures(results, theme)))
        for theme in (LIGHT, DARK)
    }
    resources["plotly"] = packing.compressed(get_plotlyjs().encode("utf-8"))
    return Template(bundle.read_web("page.html")).substitute(
        title=html.escape(f"{name}: sweep"),
        styles=bundle.styles(bundle.SWEEP_STYLES),
        script=bundle.script(bundle.SWEEP_ENTRY),
        summary=packing.as_json(summary),
        resources="\n".join(packing.script_element(key, packed) for key, packed in resources.items()),
    )


def sweep_figures(results: SweepResults, theme: Theme = LIGHT) -> dict[str, go.Figure]:
    """Every figure that there are numbers for, by name."""
    members, compared = results.members, any(pair.stability is not None for pair in results.pairs)
    figures = {}
    if any(m.explained_variance is not None for m in members):
        figures["variance"] = frontier_figure(members, theme)
    if any(m.ce_delta is not None for m in members):
        figures["ce"] = frontier_figure(members, theme, key="ce_delta", title="ΔCE, nats per token")
    if compared:
        figures["likeness"] = likeness_figure(results.pairs, theme)
        figures["survival"] = survival_figure(results.pairs, theme)
    if results.cost["together_seconds"]:
        figures["cost"] = cost_figure(results.cost, theme)
    if any(m.curve for m in members):
        figures["curves"] = curves_figure(members, theme)
    return figures


def sweep_summary(results: SweepResults, name: str, *, reports: set[str]) -> dict[str, Any]:
    """What the page shows beside figures."""
    origin = results.provenance
    return {
        "contract_version": 1,
        "name": name,
        "model": origin["model"].get("name"),
        "hooks": list(dict.fromkeys(m.hook for m in results.members)),
        "n_tokens": results.n_tokens,
        "training_tokens": origin["base"]["tokens"] // origin["base"]["batch_size"] * origin["base"]["batch_size"],
        "cost": dict(results.cost),
        "members": [_row(m, m.name in reports) for m in results.members],
        "pairs": [_pair(pair) for pair in results.pairs],
        "figures": list(sweep_figures(results)),
        "command": origin["command"],
        "provenance": _provenance(origin),
    }


def _row(member: MemberScore, has_report: bool) -> dict[str, Any]:
    keys = (
        "name", "status", "note", "architecture", "k", "d_sae", "lr", "seed", "hook", "explained_variance", "l0",
        "ce_delta", "dead_share", "tokens_per_s",
    )  # fmt: skip
    report = f"runs/{member.name}/report.html" if has_report else None
    return {**{key: getattr(member, key) for key in keys}, "report": report}


def _pair(pair: SeedPair) -> dict[str, Any]:
    found = pair.stability
    row: dict[str, Any] = {"group": pair.group, "members": list(pair.members), "n_features": None}
    if found is None:
        return row
    return row | {
        "n_features": list(found.n_features),
        "n_tokens": found.n_tokens,
        "mean_max": found.cosine.mean_max,
        "mean_max_null": found.cosine_null.mean_max,
        "above_07": found.cosine.share_above_07,
        "above_09": found.cosine.share_above_09,
        "correlation": found.correlation.matched_mean,
        "correlation_null": found.correlation_null.matched_mean,
        "jaccard": found.jaccard.matched_mean,
        "jaccard_null": found.jaccard_null.matched_mean,
    }


def _provenance(origin: Mapping[str, Any]) -> list[list[str]]:
    data, versions = origin["data"], origin["versions"]
    memory = origin["memory_bytes"]
    lines = {
        "model hash": origin["model"].get("content_hash"),
        "data": data.get("dataset"),
        "data hash": data.get("content_hash"),
        "started (UTC)": origin["created_utc"],
        "commit": origin["commit"],
        "versions": ", ".join(f"{key} {value}" for key, value in versions.items()),
        "hardware": ", ".join(f"{key} {value}" for key, value in origin["hardware"].items()),
        "memory, counted": ", ".join(f"{key} {size / 1e6:,.0f} MB" for key, size in memory.items()),
        "grid": "; ".join(f"{key}: {', '.join(map(str, values))}" for key, values in origin["grid"].items()),
        "also": "; ".join(str(one) for one in origin["also"]),
        "shuffling seed": origin["base"]["shuffle"]["seed"],
    }
    return [[key, str(value)] for key, value in lines.items() if value not in (None, "")]
