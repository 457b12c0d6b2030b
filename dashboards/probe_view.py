"""Probes as figures: by layer with intervals and baselines, description length, confusions, directions, erasure."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards.theme import CATEGORIES, LIGHT, Theme, template
from interp.errors import ConfigError
from probes import probe_results as results
from probes.erasure_report import NOTHING
from probes.intervals import Score
from probes.probe_results import Confusion, DirectionMap, ProbeReport, ProbeRow, ScoredText

_LINES = (
    (results.LOGISTIC, "accent", "solid"),
    (results.NONLINEAR, "category 1", "solid"),
    (results.IN_DISTRIBUTION, "category 2", "solid"),
    (results.MEAN_DIFFERENCE, "category 2", "dot"),
    (results.CONTROL, "muted", "dash"),
)
_LEVELS = ((results.BAG_OF_TOKENS, "dash"), (results.MAJORITY, "dot"))
_MOST_WRITTEN = 16
"""Classes of a confusion matrix whose cells have room for a figure."""
_SPARSE_DASHES = {results.K_SPARSE: "solid", results.RANDOM_FEATURES: "dot", results.GROUP_SPARSE: "dash"}
_ONE_TWO_FIVE = [digit * 10**power for power in range(6) for digit in (1, 2, 5)]
SPLIT_TITLES = {"document": "new documents", "word": "new words in new documents"}


def accuracy_figure(report: ProbeReport, attribute: str, theme: Theme = LIGHT) -> go.Figure:
    """Held-out accuracy by layer, a panel for each split, with 95% intervals and the control task.

    What needs no activations stands as level lines.
    """
    splits = list(report.splits[attribute])
    titles = [SPLIT_TITLES.get(split, split) for split in splits]
    figure = make_subplots(rows=1, cols=len(splits), shared_yaxes=True, subplot_titles=titles, horizontal_spacing=0.04)
    for column, split in enumerate(splits, 1):
        for probe, dash in _LEVELS:
            for row in report.find(attribute, split, probe):
                figure.add_trace(_level(row, _names(report), dash, theme, legend=column == 1), row=1, col=column)
        for probe, colour, dash in _LINES:
            rows = [row for row in report.find(attribute, split, probe) if row.site in _names(report)]
            if rows:
                line = _line(rows, probe, _colour(colour, theme), dash, legend=split == "document" or len(splits) == 1)
                figure.add_trace(line, row=1, col=column)
    figure.update_annotations(font={"size": 12, "color": theme.ink})
    figure.update_xaxes(categoryorder="array", categoryarray=_ticks(report))
    figure.update_yaxes(title_text=f"{attribute}: held-out accuracy", col=1)
    return _framed(figure, theme, height=340, legend=True)


def selectivity_figure(report: ProbeReport, theme: Theme = LIGHT) -> go.Figure:
    """Accuracy less that on the control task, by layer, a line for each attribute; the interval pairs the examples."""
    figure = go.Figure()
    for index, attribute in enumerate(report.attributes):
        rows = [r for r in report.find(attribute, "document", results.SELECTIVITY) if r.site in _names(report)]
        if rows:
            figure.add_trace(_line(rows, attribute, CATEGORIES[index % len(CATEGORIES)], "solid", legend=True))
    figure.add_hline(y=0, line={"color": theme.muted, "width": 1, "dash": "dot"})
    figure.update_xaxes(categoryorder="array", categoryarray=_ticks(report))
    figure.update_yaxes(title_text="selectivity: accuracy less control")
    return _framed(figure, theme, height=320, legend=True)


def description_figure(report: ProbeReport, theme: Theme = LIGHT) -> go.Figure:
    """Compression of the labels by the online code, by layer; dashed: of their control, where words alone tell."""
    figure = go.Figure()
    for index, attribute in enumerate(report.attributes):
        for of, dash in ((results.LABELS, "solid"), (results.CONTROL, "dash")):
            held = [
                (row.site, row.length.compression)
                for row in report.descriptions
                if (row.attribute, row.of) == (attribute, of) and row.site in _names(report)
            ]
            rows = [ProbeRow(attribute, "document", site, of, score) for site, score in held]
            if rows:
                name = attribute if of == results.LABELS else f"{attribute}, control"
                figure.add_trace(_line(rows, name, CATEGORIES[index % len(CATEGORIES)], dash, legend=dash == "solid"))
    figure.add_hline(y=1, line={"color": theme.muted, "width": 1, "dash": "dot"})
    figure.update_xaxes(categoryorder="array", categoryarray=_ticks(report))
    figure.update_yaxes(title_text="compression: n log₂ K / bits", rangemode="tozero")
    return _framed(figure, theme, height=320, legend=True)


def confusion_figure(confusion: Confusion, theme: Theme = LIGHT) -> go.Figure:
    """What each class is taken for: shares of its held-out examples, counts on hover."""
    counts = np.array(confusion.counts)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    names = list(confusion.classes)
    figure = go.Figure(
        go.Heatmap(
            z=share, x=names, y=names, customdata=counts, zmin=0, zmax=1, xgap=1, ygap=1,
            colorscale=[[0, theme.panel], [1, theme.accent]], showscale=False,
            hovertemplate="%{y} taken for %{x}: %{z:.3f} (%{customdata:,})<extra></extra>",
        )
    )  # fmt: skip
    for index, name in enumerate(names if len(names) <= _MOST_WRITTEN else ()):
        figure.add_annotation(
            x=name, y=name, text=f"{share[index, index]:.2f}", showarrow=False,
            font={"size": 10, "color": theme.panel if share[index, index] > 0.5 else theme.ink},
        )  # fmt: skip
    figure.update_xaxes(title_text="answer", showgrid=False, side="bottom", tickmode="linear")
    figure.update_yaxes(title_text="class", showgrid=False, autorange="reversed", tickmode="linear")
    return _framed(figure, theme, height=120 + 24 * len(names), legend=False)


def direction_figure(directions: DirectionMap, theme: Theme = LIGHT) -> go.Figure:
    """Cosines between the directions of all classes; blue along each other, rust against, no colour at right angles."""
    names, cosines = list(directions.names), np.array(directions.cosines)
    figure = go.Figure(
        go.Heatmap(
            z=cosines, x=names, y=names, zmin=-1, zmax=1, xgap=1, ygap=1,
            colorscale=[[0, theme.down], [0.5, theme.panel], [1, theme.up]], colorbar=_bar("cosine"),
            hovertemplate="%{y}<br>%{x}<br>cosine %{z:.3f}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_xaxes(showgrid=False, tickmode="linear", tickangle=-60)
    figure.update_yaxes(showgrid=False, autorange="reversed", tickmode="linear")
    return _framed(figure, theme, height=170 + 16 * len(names), legend=False)


def erasure_figure(report: ProbeReport, theme: Theme = LIGHT) -> go.Figure:
    """What probes trained anew still find after each eraser: on the fitted examples, on others, and nonlinearly.

    Dotted: the commonest class.
    """
    attributes = list(dict.fromkeys(row.attribute for row in report.erasures))
    if not attributes:
        raise ConfigError("got a report without erasure; run the probes with --erasure true")
    figure = make_subplots(
        rows=1, cols=len(attributes), shared_yaxes=True, subplot_titles=attributes, horizontal_spacing=0.03
    )
    kinds = (
        ("fitted", "linear, fitted examples", theme.muted, "circle-open"),
        ("held_out", "linear, held out", theme.accent, "circle"),
        ("nonlinear", "nonlinear, held out", CATEGORIES[1], "diamond"),
    )
    for column, attribute in enumerate(attributes, 1):
        rows = [row for row in report.erasures if row.attribute == attribute]
        for name, title, colour, symbol in kinds:
            points = [(row.method, getattr(row, name)) for row in rows]
            figure.add_trace(_points(points, title, colour, symbol, legend=column == 1), row=1, col=column)
        split = next(iter(report.splits[attribute]))
        for row in report.find(attribute, split, results.MAJORITY):
            figure.add_vline(
                x=row.score.value, line={"color": theme.muted, "dash": "dot", "width": 1}, row=1, col=column
            )
    figure.update_annotations(font={"size": 12, "color": theme.ink})
    methods = list(dict.fromkeys(row.method for row in report.erasures))
    labels = ["nothing erased" if method == NOTHING else method for method in methods]
    figure.update_yaxes(
        showgrid=False, autorange="reversed", categoryorder="array", categoryarray=methods, tickvals=methods,
        ticktext=labels,
    )  # fmt: skip
    figure.update_xaxes(showgrid=True, range=[0, 1.03], title_text="accuracy")
    return _framed(figure, theme, height=260, legend=True)


def sparse_figure(report: ProbeReport, attribute: str, theme: Theme = LIGHT) -> go.Figure:
    """Held-out accuracy by the number of inputs used: k-sparse and random features, and group-sparse probes.

    A colour is a site, a dash a kind of probe.
    """
    split = next(iter(report.splits[attribute]))
    held = {
        (kind, site): rows
        for kind in _SPARSE_DASHES
        for site in dict.fromkeys(row.site for row in report.rows)
        if (rows := [r for r in report.find(attribute, split, kind, site=site) if r.n_inputs])
    }
    if not held:
        raise ConfigError(f"got a report without sparse probes of {attribute}; give SAEs, or --group-sparse true")
    figure = go.Figure()
    sites = list(dict.fromkeys(site for _, site in held))
    for (kind, site), rows in held.items():
        rows = sorted(rows, key=lambda row: row.n_inputs or 0)
        colour = CATEGORIES[sites.index(site) % len(CATEGORIES)]
        line = _line(rows, f"{kind}, {short_site(site)}", colour, _SPARSE_DASHES[kind], legend=True)
        line.x = [row.n_inputs for row in rows]
        figure.add_trace(line)
    figure.update_xaxes(type="log", title_text="inputs used (log)", tickvals=_ONE_TWO_FIVE)
    figure.update_yaxes(title_text=f"{attribute}: held-out accuracy")
    _framed(figure, theme, height=340, legend=True)
    if len(held) > 1:
        beside = {"orientation": "v", "x": 1.01, "y": 1, "yref": "paper", "xanchor": "left", "yanchor": "top"}
        figure.update_layout(legend=beside, margin={"t": 12})
    return figure


def token_figure(text: ScoredText, theme: Theme = LIGHT) -> go.Figure:
    """Every token of a text (columns) by class (rows): the probe's probability; dots mark the true class."""
    probabilities = np.array(text.probabilities).T
    at = list(range(len(text.tokens)))
    scale = [[0, f"rgba({theme.activation},0)"], [1, f"rgba({theme.activation},1)"]]
    figure = go.Figure(
        go.Heatmap(
            z=probabilities, x=at, y=list(text.classes), zmin=0, zmax=1, colorscale=scale, xgap=1, ygap=1,
            customdata=[[token.strip() for token in text.tokens]] * len(text.classes), colorbar=_bar("probability"),
            hovertemplate="%{customdata} (token %{x})<br>%{y}: %{z:.3f}<extra></extra>",
        )
    )  # fmt: skip
    known = [index for index in at if text.labels[index]]
    figure.add_trace(
        go.Scatter(
            x=known, y=[text.labels[index] for index in known], mode="markers", hoverinfo="skip",
            marker={"size": 5, "color": theme.ink},
        )
    )  # fmt: skip
    # Positions, not token strings: repeated tokens must not merge.
    figure.update_xaxes(tickvals=at, ticktext=[token.strip() for token in text.tokens], tickangle=-60, showgrid=False)
    figure.update_yaxes(showgrid=False, tickmode="linear")
    # Plotly drops margins that leave too little between them: long tokens need a taller figure.
    longest = max(len(token.strip()) for token in text.tokens)
    return _framed(figure, theme, height=140 + 18 * len(text.classes) + 6 * max(0, longest - 8), legend=False)


def short_site(name: str) -> str:
    """A hook's name without what every hook has."""
    return name.replace("blocks.", "").replace("hook_", "")


def _names(report: ProbeReport) -> list[str]:
    """Hooks alone: dictionaries have no place in the order of layers."""
    return [site.name for site in report.sites if not site.is_dictionary]


def _ticks(report: ProbeReport) -> list[str]:
    return [short_site(name) for name in _names(report)]


def _colour(name: str, theme: Theme) -> str:
    kind, _, number = name.partition(" ")
    return CATEGORIES[int(number)] if kind == "category" else str(getattr(theme, kind))


def _line(rows: Sequence[ProbeRow], name: str, colour: str, dash: str, *, legend: bool) -> go.Scatter:
    scores = [row.score for row in rows]
    return go.Scatter(
        x=[short_site(row.site) for row in rows], y=[score.value for score in scores], name=name, legendgroup=name,
        showlegend=legend, mode="lines+markers", line={"color": colour, "width": 2, "dash": dash}, marker={"size": 6},
        error_y=_whiskers(scores, colour), customdata=[results.score_text(score) for score in scores],
        hovertemplate=f"{name}, %{{x}}: %{{customdata}}<extra></extra>",
    )  # fmt: skip


def _points(points: Sequence[tuple[str, Score]], name: str, colour: str, symbol: str, *, legend: bool) -> go.Scatter:
    scores = [score for _, score in points]
    return go.Scatter(
        x=[score.value for score in scores], y=[method for method, _ in points], name=name, legendgroup=name,
        showlegend=legend, mode="markers", marker={"color": colour, "symbol": symbol, "size": 8},
        error_x=_whiskers(scores, colour), customdata=[results.score_text(score) for score in scores],
        hovertemplate=f"{name}, %{{y}}: %{{customdata}}<extra></extra>",
    )  # fmt: skip


def _whiskers(scores: Sequence[Score], colour: str) -> dict[str, Any]:
    return {
        "type": "data", "symmetric": False, "thickness": 1, "width": 3, "color": colour,
        "array": [score.interval[1] - score.value if score.interval else 0 for score in scores],
        "arrayminus": [score.value - score.interval[0] if score.interval else 0 for score in scores],
    }  # fmt: skip


def _level(row: ProbeRow, sites: Sequence[str], dash: str, theme: Theme, *, legend: bool) -> go.Scatter:
    text = results.score_text(row.score)
    # A line needs two ends: at one site alone a bar stands for it.
    mark = {"symbol": "line-ew", "size": 60, "line": {"color": theme.ink, "width": 1}}
    return go.Scatter(
        x=[short_site(site) for site in sites], y=[row.score.value] * len(sites), name=row.probe, legendgroup=row.probe,
        showlegend=legend, mode="lines" if len(sites) > 1 else "lines+markers", marker=mark,
        line={"color": theme.ink, "width": 1, "dash": dash}, hovertemplate=f"{row.probe}: {text}<extra></extra>",
    )  # fmt: skip


def _bar(title: str) -> dict[str, Any]:
    return {"title": {"text": title, "side": "right"}, "thickness": 10, "outlinewidth": 0, "len": 0.9}


def _framed(figure: go.Figure, theme: Theme, *, height: int, legend: bool) -> go.Figure:
    figure.update_layout(
        template=template(theme), height=height, showlegend=legend,
        margin={"l": 60, "r": 16, "t": 64 if legend else 12, "b": 44},
        legend={"y": 1.0, "yref": "container", "yanchor": "top"},
    )  # fmt: skip
    return figure
