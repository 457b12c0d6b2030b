"""Lenses as figures: the layer by token grid, precision and surprisal by layer, tuned beside logit lens."""

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards.theme import CATEGORIES, LIGHT, Theme, end_labels, template
from interp.lenses.divergence import LensDivergence
from interp.lenses.grid import LensGrid
from interp.lenses.logit import layer_name
from interp.lenses.scoring import AT, Figure
from interp.lenses.table import (
    BIGRAM,
    FIXED,
    FIXED_ALONE,
    LEARNED,
    LEARNED_ALONE,
    LINEAR_HIDDEN,
    LINEAR_VOCAB,
    LOGIT_LENS,
    TRIGRAM,
    TUNED_LENS,
    LensRow,
    LensTable,
    Mode,
)

CELL = 52
_LEAST = 1e-6
TOKEN_CHARACTERS = 9
_COLOURS = dict(zip((LEARNED, FIXED, LINEAR_VOCAB, LINEAR_HIDDEN), CATEGORIES, strict=False))
_LENSES = {LOGIT_LENS: "dot", TUNED_LENS: "dash"}
_COUNTED = {BIGRAM: "dot", TRIGRAM: "dash"}
_ALONE = {FIXED_ALONE: FIXED, LEARNED_ALONE: LEARNED}


def grid_figure(grid: LensGrid, theme: Theme = LIGHT) -> go.Figure:
    """What each layer (row) expects behind each token (column): the next token in the cell, all others on hover.

    Opacity is the mean probability of the likeliest token over the distances that the lens reads.
    """
    n_layers, n_tokens = grid.top.shape[:2]
    cells = [[_shown(grid.text(int(token))) for token in row[:, 0, 0]] for row in grid.top]
    hover = [[_hover(grid, layer, at) for at in range(n_tokens)] for layer in range(n_layers)]
    heat = go.Heatmap(
        z=grid.mean_probability.tolist(), text=cells, customdata=hover, texttemplate="%{text}", zmin=0, zmax=1,
        xgap=2, ygap=2, hovertemplate="%{customdata}<extra></extra>", textfont={"size": 11, "color": theme.ink},
        colorscale=[[0, f"rgba({theme.activation},0.02)"], [1, f"rgba({theme.activation},0.75)"]],
        colorbar={
            "title": {"text": "mean<br>probability", "font": {"size": 11, "color": theme.muted}}, "thickness": 8,
            "tickvals": [0, 0.5, 1], "outlinewidth": 0, "tickfont": {"color": theme.muted, "size": 11}, "len": 0.9,
        },
    )  # fmt: skip
    figure = go.Figure(heat).update_layout(template=template(theme), margin={"l": 84, "r": 12, "t": 8, "b": 76})
    figure.update_layout(width=160 + CELL * max(n_tokens, 8), height=110 + 34 * n_layers, hoverlabel_align="left")
    # Positions, not token strings: repeated tokens must not merge.
    ticks = [_shown(grid.text(token)) for token in grid.tokens]
    figure.update_xaxes(tickvals=list(range(n_tokens)), ticktext=ticks, tickangle=-45, showline=False)
    names = [layer_name(hook) for hook in grid.hooks]
    return figure.update_yaxes(tickvals=list(range(n_layers)), ticktext=names, showgrid=False)


def _shown(text: str) -> str:
    """A token that fits a cell and is no markup to Plotly; spaces and newlines can be seen."""
    seen = text.replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥")
    seen = seen if len(seen) <= TOKEN_CHARACTERS else f"{seen[: TOKEN_CHARACTERS - 1]}…"
    return html.escape(seen, quote=False)


def _hover(grid: LensGrid, layer: int, at: int) -> str:
    head = f"{layer_name(grid.hooks[layer])}, behind {_shown(grid.text(grid.tokens[at]))} (position {at})"
    lines = [head]
    for n in range(grid.n_distances):
        pairs = zip(grid.top[layer, at, n], grid.probability[layer, at, n], strict=True)
        told = "  ".join(f"{_shown(grid.text(int(token)))} {p:.2f}" for token, p in pairs)
        lines.append(f"N={n}: {told}")
    return "<br>".join(lines)


def precision_figure(table: LensTable, theme: Theme = LIGHT, *, mode: Mode = "blind", at: int = 1) -> go.Figure:
    """Precision@k of every arm by layer, a panel for each distance; what reads no state as level lines."""
    index = AT.index(at)
    figure = _arms_figure(table, theme, mode, _Quantity(f"precision@{at}", lambda row: row.precision[index]))
    return figure.update_yaxes(range=[-0.02, 1.04], tickvals=[0, 0.25, 0.5, 0.75, 1])


def surprisal_figure(table: LensTable, theme: Theme = LIGHT, *, mode: Mode = "blind") -> go.Figure:
    """How surprising the model finds what an arm predicts, by layer, a panel for each distance: lower is better."""
    figure = _arms_figure(table, theme, mode, _Quantity("surprisal, nats", lambda row: row.surprisal))
    return figure.update_yaxes(rangemode="tozero")


@dataclass(frozen=True, slots=True)
class _Quantity:
    """A figure of a row, and what it is called."""

    title: str
    of: Callable[[LensRow], Figure]


def _arms_figure(table: LensTable, theme: Theme, mode: Mode, quantity: _Quantity) -> go.Figure:
    n, names = table.n_distances, [layer_name(hook) for hook in table.hooks]
    titles = ["N = 0 (next token)", *(f"N = {distance}" for distance in range(1, n))]
    figure = make_subplots(rows=1, cols=n, shared_yaxes=True, subplot_titles=titles, horizontal_spacing=0.02)
    figure.update_annotations(font={"size": 12, "color": theme.ink})
    named: set[str] = set()
    for distance in range(n):
        for trace in _traces(table, theme, mode, distance, quantity):
            trace.update(showlegend=trace.name not in named, legendgroup=trace.name)
            named.add(trace.name)
            figure.add_trace(trace, row=1, col=distance + 1)
    figure.update_layout(template=template(theme), showlegend=True, height=400)
    figure.update_layout(
        margin={"l": 56, "r": 16, "t": 62, "b": 72}, legend={"y": 1.0, "yref": "container", "yanchor": "top"}
    )
    figure.update_xaxes(tickvals=list(range(len(names))), ticktext=names, tickangle=-45, range=[-0.3, len(names) - 0.7])
    return figure.update_yaxes(title_text=quantity.title, col=1)


def _traces(table: LensTable, theme: Theme, mode: Mode, distance: int, quantity: _Quantity) -> list[go.Scatter]:
    traces = []
    for arm, colour in _COLOURS.items():
        traces += _line(table, arm, mode, distance, quantity, colour, "solid")
    for arm, dash in _LENSES.items():
        traces += _line(table, arm, mode, distance, quantity, theme.ink, dash)
    for arm, of in _ALONE.items():
        traces += _level(table, arm, mode, distance, quantity, _COLOURS[of], "dash")
    for arm, dash in _COUNTED.items():
        traces += _level(table, arm, mode, distance, quantity, theme.muted, dash)
    return traces


def _line(
    table: LensTable, arm: str, mode: Mode, distance: int, quantity: _Quantity, colour: str, dash: str
) -> list[go.Scatter]:
    found = [(place, table.row(arm, mode, distance, hook)) for place, hook in enumerate(table.hooks)]
    held = [(place, quantity.of(row)) for place, row in found if row is not None]
    if not held:
        return []
    up, down = zip(*(_whisker(figure) for _, figure in held), strict=True)
    return [
        go.Scatter(
            x=[place for place, _ in held], y=[figure.value for _, figure in held], name=arm, mode="lines+markers",
            line={"color": colour, "width": 1.8, "dash": dash}, marker={"size": 5, "color": colour},
            error_y={"array": up, "arrayminus": down, "symmetric": False, "thickness": 1, "width": 3},
            customdata=[_between(figure) for _, figure in held],
            hovertemplate=f"{arm}, %{{x}}: %{{y:.3f}}%{{customdata}}<extra></extra>",
        )
    ]  # fmt: skip


def _level(
    table: LensTable, arm: str, mode: Mode, distance: int, quantity: _Quantity, colour: str, dash: str
) -> list[go.Scatter]:
    row = table.row(arm, mode, distance)
    if row is None:
        return []
    figure, last = quantity.of(row), len(table.hooks) - 1
    return [
        go.Scatter(
            x=[0, last], y=[figure.value, figure.value], name=arm, mode="lines",
            line={"color": colour, "width": 1.2, "dash": dash},
            hovertemplate=f"{arm}: %{{y:.3f}}{_between(figure)}<extra></extra>",
        )
    ]  # fmt: skip


def _whisker(figure: Figure) -> tuple[float, float]:
    if figure.interval is None:
        return 0.0, 0.0
    return figure.interval[1] - figure.value, figure.value - figure.interval[0]


def _between(figure: Figure) -> str:
    return "" if figure.interval is None else f" ({figure.interval[0]:.3f} to {figure.interval[1]:.3f})"


@dataclass(frozen=True, slots=True)
class _Lens:
    name: str
    values: Sequence[float]
    intervals: Sequence[tuple[float, float] | None]
    colour: str


def divergence_figure(found: LensDivergence, theme: Theme = LIGHT) -> go.Figure:
    """Held-out KL to the model by layer for the logit and the tuned lens; at the last layer both are zero."""
    layers = found.layers
    lenses = (
        _Lens("logit lens", [x.logit for x in layers], [x.logit_interval for x in layers], theme.muted),
        _Lens("tuned lens", [x.tuned for x in layers], [x.tuned_interval for x in layers], theme.accent),
    )
    figure = go.Figure()
    for lens in lenses:
        figures = [Figure(value, between) for value, between in zip(lens.values, lens.intervals, strict=True)]
        up, down = zip(*map(_whisker, figures), strict=True)
        figure.add_scatter(
            x=list(range(len(layers))), y=lens.values, name=lens.name, mode="lines+markers",
            line={"color": lens.colour, "width": 2}, marker={"size": 6},
            error_y={"array": up, "arrayminus": down, "symmetric": False, "thickness": 1, "width": 4},
            customdata=[_between(one) for one in figures],
            hovertemplate=f"{lens.name}: %{{y:.4f}}%{{customdata}} nats<extra></extra>",
        )  # fmt: skip
    every = [math.log10(max(value, _LEAST)) for lens in lenses for value in lens.values]
    low, high = min(every) - 0.15, max(every) + 0.15
    figure.update_layout(template=template(theme), margin_r=96, height=300)
    ends = [(math.log10(max(lens.values[-1], _LEAST)) - low) / (high - low) for lens in lenses]
    end_labels(figure, [lens.name for lens in lenses], ends, theme)
    figure.update_xaxes(tickvals=list(range(len(layers))), ticktext=[layer_name(x.hook) for x in layers])
    title = "KL(model‖lens), nats per token (log)"
    return figure.update_yaxes(title_text=title, type="log", range=[low, high], dtick="D2", tickformat="~g")
