"""What a figure on its own is headed with: its result's facts in a line or two. Pages have headings of their own."""

import html
import textwrap
from collections.abc import Callable
from typing import Any

import plotly.graph_objects as go

from dashboards.theme import Theme

Heading = tuple[str, str]
"""A title, and a line of facts below it."""
_PLAIN_WIDTH, _PLAIN_HEIGHT = 640, 450
_MODEBAR = 150
"""Pixels right of the title that Plotly's buttons take."""
_TITLE, _FACTS = 14, 12
_EM = 0.55
"""Width of a mean letter."""


def titled(figure: go.Figure, heading: Heading, theme: Theme) -> go.Figure:
    """The figure below its heading, which breaks where the figure ends and leaves room for Plotly's buttons."""
    width = figure.layout.width or _PLAIN_WIDTH
    title = _broken(heading[0], width - _MODEBAR, _TITLE)
    facts = _broken(heading[1], width - 24, _FACTS)
    band = 16 + 19 * len(title) + 16 * len(facts)
    layout = figure.layout
    height = (layout.height or _PLAIN_HEIGHT) + band
    top = 8 if layout.margin.t is None else layout.margin.t
    figure.update_layout(
        height=height,
        margin={"t": top + band},
        title={
            "text": "<br>".join(title), "x": 0, "xref": "container", "xanchor": "left", "y": 1, "yref": "container",
            "yanchor": "top", "pad": {"t": 10, "l": 12}, "font": {"size": _TITLE, "color": theme.ink, "weight": 600},
            "subtitle": {"text": "<br>".join(facts), "font": {"size": _FACTS, "color": theme.muted, "weight": 400}},
        },
    )  # fmt: skip
    if layout.legend.yref == "container":
        figure.update_layout(legend={"y": 1 - band / height})
    return figure


def _broken(text: str, width: float, size: int) -> list[str]:
    lines = textwrap.wrap(text, max(16, int(width / (_EM * size))), break_on_hyphens=False)
    return [html.escape(line, quote=False) for line in lines]


def heading_of(result: Any) -> Heading | None:
    """The heading of a result by its kind; None where the figure says all there is to say."""
    told = _HEADINGS.get(type(result).__name__)
    return told(result) if told else None


def _effects(grid: Any) -> Heading:
    prompts = _counted(grid.n_prompts, "prompt")
    if grid.units.startswith("share"):
        return _capital(grid.method), f"{grid.outcome}, as a {grid.units}; {prompts}"
    # Bars have the outcome on their axis.
    measured = f"{grid.outcome} ({grid.units}); " if grid.units else f"{grid.outcome}; "
    return _capital(grid.method), ("" if len(grid.axes) == 1 else measured) + prompts


def _lens(grid: Any) -> Heading:
    method = grid.method if "lens" in grid.method.lower() else f"Future Lens, {grid.method}"
    shown = "opacity is its probability"
    if grid.n_distances > 1:
        shown = f"opacity is the mean probability over N = 0 to {grid.n_distances - 1}"
    return _capital(method), f"the likeliest next token behind each token, by layer; {shown}"


def _circuit(circuit: Any) -> Heading:
    kept = f"{len(circuit.nodes):,} of {circuit.n_candidates:,} nodes, {_counted(len(circuit.edges), 'edge')}"
    made = f"{circuit.method}, ablated to {circuit.baseline}; {_counted(circuit.n_prompts, 'prompt')}"
    return f"Circuit: {circuit.outcome}", f"{kept}; {made}"


def _faithfulness(curve: Any) -> Heading:
    held = _counted(curve.n_prompts, "prompt")
    return "Faithfulness by circuit size", f"{held}; 1 is the model itself, 0 everything ablated"


def _check(check: Any) -> Heading:
    near = f"correlation {check.correlation:.3f} over {_counted(len(check.labels), 'component')}"
    return f"Attribution against patching: {check.kind}, {check.direction}", (
        f"{check.method}; {near}; {_counted(check.n_pairs, 'pair')} of prompts"
    )


def _steering(result: Any) -> Heading:
    outcome = f"{result.outcome}, {result.units}" if result.units else result.outcome
    prompts = f"{_counted(result.n_prompts, 'prompt')} in {_counted(result.n_clusters, 'cluster')}"
    bands = "; bands hold the middle 95% of the directions of each kind" if result.arms else ""
    return f"Steering along {result.direction} at {result.hook}", f"{outcome}; {prompts}{bands}"


def _causal_sweep(sweep: Any) -> Heading:
    codes = f"average treatment effect of {_counted(len(sweep.codes), 'code')}"
    return "Causal sweep", f"{codes} by the value that it is set to; {_counted(sweep.n_samples, 'sample')}"


def _contrast(found: Any) -> Heading:
    told = f"{found.n_discoveries:,} of {_counted(len(found.rows), 'feature')} separate them (false-discovery rate 5%)"
    sizes = " and ".join(f"{n:,}" for n in found.n_documents)
    return f"A, {found.names[0]}, against B, {found.names[1]}", f"{told}; {sizes} documents"


def _disentanglement(report: Any) -> Heading:
    first = report.arms[0]
    examples = f"{_counted(first.n_examples, 'example')} in {_counted(first.n_clusters, 'cluster')}"
    return (
        f"Disentanglement: {report.title}",
        f"factors: {', '.join(first.factors)}; {examples}; whiskers are 95% intervals",
    )


def _single(result: Any) -> Heading:
    examples = f"{_counted(result.n_examples, 'example')} in {_counted(result.n_clusters, 'cluster')}"
    return (
        f"Disentanglement: {result.name}",
        f"factors: {', '.join(result.factors)}; {examples}; whiskers are 95% intervals",
    )


def _probes(report: Any) -> Heading:
    attribute, n = report.attributes[0], len(report.attributes)
    which = f"the first of {n} attributes: {', '.join(report.attributes)}; " if n > 1 else ""
    model = (report.about.get("model") or {}).get("name")
    return f"Probes of {attribute}, by layer", f"{f'{model}; ' if model else ''}{which}whiskers are 95% intervals"


def _confusion(found: Any) -> Heading:
    return f"{_capital(found.attribute)}: answers by class", f"{found.site}, held out by {found.split}"


def _directions(found: Any) -> Heading:
    return "Cosines between the directions of classes", found.site


def _prompt(_: Any) -> Heading:
    return "Codes on a prompt", "the most similar code of each codebook at each token; strong colour: rare elsewhere"


def _scored(text: Any) -> Heading:
    return f"Probability of each {text.attribute}", f"{text.site}, document {text.document}; dots mark the true class"


def _evaluation(scores: Any) -> Heading:
    on = f"{_counted(scores.n_tokens, 'token')} of {_counted(scores.n_documents, 'document')}"
    return "What each prefix is worth alone", f"{scores.hook}; {on}"


_HEADINGS: dict[str, Callable[[Any], Heading]] = {
    "EffectGrid": _effects,
    "LensGrid": _lens,
    "Circuit": _circuit,
    "FaithfulnessCurve": _faithfulness,
    "AttributionCheck": _check,
    "DoseResponse": _steering,
    "CausalSweep": _causal_sweep,
    "Contrast": _contrast,
    "DisentanglementReport": _disentanglement,
    "Disentanglement": _single,
    "ProbeReport": _probes,
    "Confusion": _confusion,
    "DirectionMap": _directions,
    "PromptGrid": _prompt,
    "ScoredText": _scored,
    "Evaluation": _evaluation,
}


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _counted(n: int, one: str) -> str:
    return f"{n:,} {one}" if n == 1 else f"{n:,} {one}s"
