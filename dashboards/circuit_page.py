"""A circuit as one HTML file that opens from anywhere, without network: its graph, its curves, its checks."""

import html
import os
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from dashboards import bundle, packing
from dashboards.circuit_view import ablation_figure, columns, faithfulness_figure, short_name
from dashboards.run_figures import figures_json
from dashboards.theme import DARK, LIGHT, Theme
from interp.circuits import Circuit, CircuitNode
from interp.storage import write_text

STYLES, ENTRY = ("base.css", "layout.css", "overview.css", "circuit.css"), "circuit.js"


def write_circuit_page(circuit: Circuit, path: Path, *, title: str = "Circuit") -> Path:
    """Write the page and give its path.

    Raises: StorageError if it cannot be written.
    """
    write_text(path, circuit_page(circuit, title=title, at=path.parent))
    return path


def circuit_page(circuit: Circuit, *, title: str = "Circuit", at: Path | None = None) -> str:
    """The page as text; links to the runs' reports are relative to the folder `at`."""
    figures = {theme.name: packing.pack_json(figures_json(circuit_figures(circuit, theme))) for theme in (LIGHT, DARK)}
    resources = {f"figures-{name}": packed for name, packed in figures.items()}
    resources["plotly"] = packing.compressed(get_plotlyjs().encode("utf-8"))
    return Template(bundle.read_web("page.html")).substitute(
        title=html.escape(title),
        styles=bundle.styles(STYLES),
        script=bundle.script(ENTRY),
        summary=packing.as_json(circuit_summary(circuit, title=title, at=at)),
        resources="\n".join(packing.script_element(key, packed) for key, packed in resources.items()),
    )


def circuit_figures(circuit: Circuit, theme: Theme = LIGHT) -> dict[str, go.Figure]:
    """Every figure that there are numbers for, by name."""
    figures = {}
    if circuit.curves:
        figures["faithfulness"] = faithfulness_figure(circuit.curves, theme)
    if any(node.ablation is not None for node in circuit.nodes):
        figures["ablation"] = ablation_figure(circuit, theme)
    return figures


def circuit_summary(circuit: Circuit, *, title: str, at: Path | None) -> dict[str, Any]:
    """What the page shows beside figures: the graph, column by column, and where it comes from."""
    dictionaries = circuit.provenance.get("dictionaries", {})
    links = {hook: _report(facts, at) for hook, facts in dictionaries.items()}
    held = columns(circuit)
    return {
        "contract_version": 1,
        "title": title,
        "outcome": circuit.outcome,
        "units": circuit.units,
        "baseline": circuit.baseline,
        "method": circuit.method,
        "model": circuit.provenance.get("model", {}).get("name"),
        "n_prompts": circuit.n_prompts,
        "n_candidates": circuit.n_candidates,
        "thresholds": {"node": circuit.node_threshold, "edge": circuit.edge_threshold},
        "reference": dict(circuit.reference),
        "columns": [{"name": name, "nodes": [_node(node, links) for node in nodes]} for name, nodes in held],
        "edges": [{"source": e.source, "target": e.target, "effect": e.effect} for e in circuit.edges],
        "curves": [_headline(circuit, index) for index in range(len(circuit.curves))],
        "figures": list(circuit_figures(circuit)),
        "agreement": _agreement(circuit),
        "provenance": _provenance(circuit),
    }


def _node(node: CircuitNode, links: dict[str, str | None]) -> dict[str, Any]:
    link = links.get(node.hook)
    return {
        "name": node.name,
        "short": short_name(node),
        "kind": node.kind,
        "hook": node.hook,
        "effect": node.effect,
        "interval": node.interval,
        "ablation": node.ablation,
        "ablation_interval": node.ablation_interval,
        "tokens": list(node.tokens),
        "link": None if link is None or node.index is None else f"{link}#/features/{node.index}",
    }


def _report(facts: dict[str, Any], at: Path | None) -> str | None:
    """Where the page of a dictionary's run is, seen from this page; None if it has none."""
    if not facts.get("report"):
        return None
    page = Path(facts["run"]) / "report.html"
    return page.as_posix() if at is None else Path(os.path.relpath(page, at)).as_posix()


def _headline(circuit: Circuit, index: int) -> dict[str, Any]:
    """The least circuit that carries half of the behaviour, and how many random ones of that size are less faithful."""
    curve = circuit.curves[index]
    enough = [i for i, share in enumerate(curve.faithfulness) if share >= 0.5]
    half = curve.sizes[enough[0]] if enough else None
    measured = [i for i in range(len(curve.sizes)) if np.isfinite(curve.random[:, i]).any()]
    beats = curve.beats_random()
    return {
        "arm": curve.arm,
        "n_prompts": curve.n_prompts,
        "half": half,
        "beats": [[curve.sizes[i], beats[i]] for i in measured],
        "n_random": len(curve.random),
    }


def _agreement(circuit: Circuit) -> float | None:
    """Correlation of attribution with ablation over the nodes that were ablated."""
    held = [(node.effect, node.ablation) for node in circuit.nodes if node.ablation is not None]
    if len(held) < 3:
        return None
    estimated, measured = np.array(held, dtype=np.float64).T
    found = float(np.corrcoef(estimated, measured)[0, 1])
    return found if np.isfinite(found) else None


def _provenance(circuit: Circuit) -> list[list[str]]:
    origin, prompts = circuit.provenance, circuit.provenance.get("prompts", {})
    lines = {
        "model hash": origin.get("model", {}).get("content_hash"),
        "prompts": prompts.get("prompts"),
        "prompts hash": prompts.get("content_hash"),
        "pairs": f"{prompts['n_train']} to find it on, {prompts['n_heldout']} held out" if prompts else None,
        "scored by": circuit.method,
        "ablated to": circuit.baseline,
        "dictionaries": "; ".join(f"{hook}: {facts['run']}" for hook, facts in origin.get("dictionaries", {}).items()),
    }
    return [[key, str(value)] for key, value in lines.items() if value not in (None, "")]
