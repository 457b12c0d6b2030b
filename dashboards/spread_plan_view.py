"""A planned run on different numbers of ranks: where the time goes, what a rank holds, what it is told."""

import math
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards.theme import CATEGORIES, LIGHT, Theme, template
from saes.planning.spread_plan import SpreadPlan

PANELS = ("hours of the run", "memory of a rank, GB", "received by a rank in a step, MB")
LABEL_GAP = 0.06
"""Distance of two labels at least, as a share of the panel's height."""
ROOM = 0.75
"""Room for labels right of the last point, in widths of the panel's data."""
SHORT = {
    "shuffle buffer": "buffer",
    "SAE, gradients, optimiser": "SAE and optimiser",
    "gradient of b_dec, norms, counts": "b_dec, counts",
}
SMALLEST = 1e-3
"""Parts below this share of the largest total are not drawn: a log axis would show little else."""


def growth_figure(plans: Sequence[SpreadPlan], theme: Theme = LIGHT) -> go.Figure:
    """The same run on more and more ranks: parts as lines, their total bold, what is available dotted."""
    figure = make_subplots(rows=1, cols=3, subplot_titles=PANELS, horizontal_spacing=0.05)
    figure.update_layout(template=template(theme), height=340, margin={"t": 36, "l": 44, "r": 12})
    columns = (
        [({key: s / 3600 for key, s in plan.seconds_by.items()}, plan.seconds / 3600) for plan in plans],
        [({key: n / 1e9 for key, n in plan.memory_by.items()}, plan.memory_bytes / 1e9) for plan in plans],
        [({key: n / 1e6 for key, n in plan.exchange_by.items()}, plan.exchange_bytes / 1e6) for plan in plans],
    )
    ranks = [plan.n_ranks for plan in plans]
    for column, rows in enumerate(columns, start=1):
        available = plans[0].memory_available_bytes / 1e9 if column == 2 else None
        _panel(figure, column, ranks, _lines(rows, available), theme)
    figure.update_xaxes(type="log", title_text="ranks (log)", tickvals=ranks, ticktext=[str(n) for n in ranks])
    if len(ranks) > 1:
        low, high = math.log10(ranks[0]), math.log10(ranks[-1])
        figure.update_xaxes(range=[low - 0.06 * (high - low), high + ROOM * (high - low)])
    return figure.update_yaxes(type="log", dtick="D2", tickformat="~g")


def _lines(rows: Sequence[tuple[Mapping[str, float], float]], available: float | None) -> dict[str, list[float]]:
    """Series by name, the total first; parts that never matter are left out."""
    totals = [total for _, total in rows]
    lines = {"in all": totals}
    for name in rows[0][0]:
        values = [parts[name] for parts, _ in rows]
        if max(values) > SMALLEST * max(totals):
            lines[SHORT.get(name, name)] = values
    return lines if available is None else {**lines, "available": [available] * len(rows)}


def _panel(
    figure: go.Figure, column: int, ranks: Sequence[int], lines: Mapping[str, Sequence[float]], theme: Theme
) -> None:
    colours = {"in all": theme.ink, "available": theme.muted}
    ends: dict[str, float] = {}
    for index, (name, values) in enumerate(lines.items()):
        colour = colours.get(name, CATEGORIES[(index - 1) % len(CATEGORIES)])
        # What is zero has no place on a log axis.
        points = [(n, value) for n, value in zip(ranks, values, strict=True) if value > 0]
        if not points:
            continue
        figure.add_trace(_line(name, points, colour), row=1, col=column)
        ends[name] = math.log10(points[-1][1])
        colours[name] = colour
    everything = [math.log10(value) for values in lines.values() for value in values if value > 0]
    if not everything:
        return
    span = max(everything) - min(everything) or 1.0
    axis = "" if column == 1 else str(column)
    for name, height in zip(sorted(ends, key=ends.__getitem__), _apart(sorted(ends.values()), span), strict=True):
        figure.add_annotation(
            x=math.log10(ranks[-1]), xref=f"x{axis}", xanchor="left", xshift=7, y=height, yref=f"y{axis}",
            text=name, font={"color": colours[name], "size": 11},
        )  # fmt: skip


def _line(name: str, points: Sequence[tuple[int, float]], colour: str) -> go.Scatter:
    bold, dotted = name == "in all", name == "available"
    return go.Scatter(
        x=[n for n, _ in points], y=[value for _, value in points], name=name,
        mode="lines" if dotted else "lines+markers",
        line={"color": colour, "width": 2.5 if bold else 1.5, "dash": "dot" if dotted else "solid"},
        marker={"size": 6 if bold else 5},
        hovertemplate=f"{name}, %{{x}} ranks: %{{y:.4g}}<extra></extra>",
    )  # fmt: skip


def _apart(ascending: Sequence[float], span: float) -> list[float]:
    """Heights moved up where they would touch the one below."""
    placed: list[float] = []
    for height in ascending:
        placed.append(max(height, placed[-1] + LABEL_GAP * span) if placed else height)
    return placed
