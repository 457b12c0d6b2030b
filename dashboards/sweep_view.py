"""A sweep as figures: frontiers, seeds compared, where the time went, how members trained."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards.theme import CATEGORIES, LIGHT, Theme, end_labels, level_colours, template
from saes.sweep_pairs import SeedPair
from saes.sweep_results import MemberScore

MOST_LABELS = 5
LOG_FROM = 4
DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star")
WAYS = {"cosine": "decoder cosine", "correlation": "correlation of activations", "jaccard": "Jaccard of firing"}
Members = Sequence[MemberScore]


def frontier_figure(
    members: Members, theme: Theme = LIGHT, *, key: str = "explained_variance", title: str = "explained variance"
) -> go.Figure:
    """L0 against what it buys: a line for each architecture and width through the means over seeds, which are points.

    Whiskers are the standard deviation over seeds, both ways. One panel for each hook.
    """
    shown = [m for m in members if m.l0 is not None and getattr(m, key) is not None]
    hooks = list(dict.fromkeys(m.hook for m in shown))
    lines = list(dict.fromkeys(m.line for m in shown))
    panels = make_subplots(
        rows=1, cols=max(1, len(hooks)), subplot_titles=hooks if len(hooks) > 1 else None, horizontal_spacing=0.08
    )
    figure = panels.update_layout(template=template(theme))
    for column, hook in enumerate(hooks, start=1):
        for index, line in enumerate(lines):
            mine = [m for m in shown if (m.hook, m.line) == (hook, line)]
            for trace in _frontier_traces(mine, key, line, index, named=column == 1):
                figure.add_trace(trace, row=1, col=column)
    l0 = [m.l0 for m in shown if m.l0]
    log = bool(l0) and max(l0) > LOG_FROM * min(l0)
    figure.update_xaxes(title_text=f"L0, features per token{' (log)' if log else ''}", type="log" if log else "linear")
    if log:
        figure.update_xaxes(dtick="D2", tickformat="~g")
    figure.update_yaxes(title_text=title, col=1)
    return _named(figure, shown, lines, key, theme, alone=len(hooks) == 1)


def _frontier_traces(mine: Members, key: str, line: str, index: int, *, named: bool) -> list[go.Scatter]:
    colour, symbol = CATEGORIES[index % len(CATEGORIES)], SYMBOLS[index % len(SYMBOLS)]
    groups: dict[str, list[MemberScore]] = {}
    for one in mine:
        groups.setdefault(one.group, []).append(one)
    means = sorted(_means(group, key) for group in groups.values())
    seeds = go.Scatter(
        x=[m.l0 for m in mine], y=[getattr(m, key) for m in mine], customdata=[m.name for m in mine], mode="markers",
        marker={"color": colour, "symbol": f"{symbol}-open", "size": 6, "line": {"width": 1}}, showlegend=False,
        hovertemplate="%{customdata}<br>L0 %{x:.2f}, %{y:.4f}<extra></extra>",
    )  # fmt: skip
    x, y, spread_x, spread_y = zip(*means, strict=True) if means else ((), (), (), ())
    whisker = {"type": "data", "thickness": 1.2, "width": 3, "color": colour}
    through = go.Scatter(
        x=x, y=y, mode="lines+markers", name=line, showlegend=named, legendgroup=line,
        line={"color": colour, "width": 1.6, "dash": DASHES[index // len(CATEGORIES) % len(DASHES)]},
        marker={"color": colour, "symbol": symbol, "size": 7},
        error_x=whisker | {"array": spread_x}, error_y=whisker | {"array": spread_y},
        hovertemplate=f"{line}, mean over seeds<br>L0 %{{x:.2f}}, %{{y:.4f}}<extra></extra>",
    )  # fmt: skip
    return [through, seeds]


def _means(group: Members, key: str) -> tuple[float, float, float, float]:
    """Mean L0 and value, then their standard deviations over seeds (0 of a single one)."""
    values = np.array([[m.l0, getattr(m, key)] for m in group], dtype=float)
    spread = values.std(axis=0, ddof=1) if len(group) > 1 else np.zeros(2)
    l0, value = values.mean(axis=0).tolist()
    return l0, value, float(spread[0]), float(spread[1])


def _named(
    figure: go.Figure, shown: Members, lines: Sequence[str], key: str, theme: Theme, *, alone: bool
) -> go.Figure:
    """Names at the ends of few lines, else a legend."""
    if not alone or len(lines) > MOST_LABELS:
        return figure.update_layout(showlegend=len(lines) > 1, margin_t=48)
    every = [getattr(m, key) for m in shown]
    low, high = min(every), max(every)
    pad = 0.08 * (high - low or abs(high) or 1.0)
    low, high = low - pad, high + pad
    ends = []
    for line in lines:
        groups: dict[str, list[MemberScore]] = {}
        for one in shown:
            if one.line == line:
                groups.setdefault(one.group, []).append(one)
        ends.append((max(_means(group, key) for group in groups.values())[1] - low) / (high - low))
    end_labels(figure, list(lines), ends, theme)
    return figure.update_yaxes(range=[low, high]).update_layout(margin_r=16 + 7 * max(map(len, lines), default=0))


def likeness_figure(pairs: Sequence[SeedPair], theme: Theme = LIGHT) -> go.Figure:
    """How like two seeds' features are, matched one to one: a point for each pair, beside its null."""
    found = [(pair.group, pair.members, pair.stability) for pair in pairs if pair.stability is not None]
    groups = list(dict.fromkeys(group for group, _, _ in found))[::-1]
    figure = make_subplots(
        rows=1, cols=len(WAYS), shared_yaxes=True, subplot_titles=list(WAYS.values()), horizontal_spacing=0.04
    )
    figure.update_layout(template=template(theme), margin_t=28)
    arms = (("", theme.accent, "circle", "seed against seed"), ("_null", theme.muted, "line-ns-open", "chance"))
    for column, way in enumerate(WAYS, start=1):
        for suffix, colour, symbol, name in arms:
            trace = go.Scatter(
                x=[getattr(s, way + suffix).matched_mean for _, _, s in found], y=[group for group, _, _ in found],
                customdata=[" and ".join(members) for _, members, _ in found], mode="markers",
                marker={"color": colour, "symbol": symbol, "size": 8, "opacity": 0.85, "line": {"width": 2}},
                hovertemplate=f"{name}: %{{x:.3f}}<br>%{{customdata}}<extra></extra>",
            )  # fmt: skip
            figure.add_trace(trace, row=1, col=column)
    figure.update_xaxes(range=[-0.02, 1.02], showgrid=True, tickvals=[0, 0.5, 1])
    figure.update_yaxes(categoryorder="array", categoryarray=groups, showgrid=False, range=[-0.7, len(groups) - 0.3])
    return figure.update_annotations(font={"color": theme.muted, "size": 12})


def survival_figure(pairs: Sequence[SeedPair], theme: Theme = LIGHT) -> go.Figure:
    """Share of matched pairs of features whose decoder cosine is at least x: one line a group, chance in grey."""
    groups: dict[str, list[Any]] = {}
    for pair in pairs:
        if pair.stability is not None:
            groups.setdefault(pair.group, []).append(pair.stability)
    figure = go.Figure(layout={"template": template(theme)})
    for index, (group, found) in enumerate(groups.items()):
        colour, dash = CATEGORIES[index % len(CATEGORIES)], DASHES[index // len(CATEGORIES) % len(DASHES)]
        figure.add_trace(_survival([s.cosine.histogram for s in found], group, colour, dash))
    if groups:
        nulls = [s.cosine_null.histogram for found in groups.values() for s in found]
        figure.add_trace(_survival(nulls, "chance", theme.muted, "dot"))
    figure.update_xaxes(title_text="decoder cosine", range=[0, 1.01])
    figure.update_yaxes(title_text="share of matched features", tickformat=".0%", range=[0, 1.02])
    return figure.update_layout(showlegend=True, margin_t=40)


def _survival(histograms: Sequence[Sequence[int]], name: str, colour: str, dash: str) -> go.Scatter:
    total = np.sum(np.asarray(histograms), axis=0)
    above = np.concatenate([total[::-1].cumsum()[::-1], [0]]) / max(1, total.sum())
    return go.Scatter(
        x=np.linspace(0, 1, len(above)).tolist(), y=above.tolist(), mode="lines", name=name,
        line={"color": colour, "width": 1.8, "dash": dash},
        hovertemplate=f"{name}: %{{y:.1%}} at %{{x:.2f}} or more<extra></extra>",
    )  # fmt: skip


def cost_figure(cost: Mapping[str, Any], theme: Theme = LIGHT) -> go.Figure:
    """Seconds of one pass beside those of each member alone: harvesting, then the members' steps."""
    steps = cost["steps_seconds"]
    alone, together = cost["alone_seconds"] - steps, cost["harvest_seconds"]
    rows = ["each alone", "one pass"]
    figure = go.Figure(layout={"template": template(theme)})
    for name, values, colour in (
        ("harvest", [alone, together], theme.levels[3]),
        ("steps", [steps, steps], theme.levels[1]),
    ):
        trace = go.Bar(
            y=rows, x=values, orientation="h", name=name, marker={"color": colour}, width=0.55,
            hovertemplate=f"{name}: %{{x:,.1f}} s<extra>%{{y}}</extra>",
        )  # fmt: skip
        figure.add_trace(trace)
    for row, total in zip(rows, (alone + steps, together + steps), strict=True):
        figure.add_annotation(x=total, y=row, text=f"{total:,.1f} s", xanchor="left", xshift=6, showarrow=False)
    figure.update_xaxes(title_text="seconds", range=[0, 1.15 * max(alone, together) + 1.15 * steps])
    return figure.update_layout(barmode="stack", showlegend=True, margin_t=36).update_yaxes(showgrid=False)


def curves_figure(members: Members, theme: Theme = LIGHT) -> go.Figure:
    """Explained variance on the training stream, a panel for each line of the frontier; lines say their L0."""
    shown = [m for m in members if m.curve]
    panels = list(dict.fromkeys((m.hook, m.line) for m in shown))
    hooks = {hook for hook, _ in panels}
    columns = min(3, max(1, len(panels)))
    figure = make_subplots(
        rows=max(1, math.ceil(len(panels) / columns)), cols=columns, shared_yaxes="all", shared_xaxes="all",
        subplot_titles=[line if len(hooks) == 1 else f"{line}<br>{hook}" for hook, line in panels],
        horizontal_spacing=0.04, vertical_spacing=0.14,
    )  # fmt: skip
    figure.update_layout(template=template(theme), margin_t=36)
    for place, panel in enumerate(panels):
        mine = sorted((m for m in shown if (m.hook, m.line) == panel), key=lambda m: (m.l0 or 0.0, m.name))
        groups = list(dict.fromkeys(m.group for m in mine))
        colours = dict(zip(groups, level_colours(len(groups), theme), strict=True))
        for one in mine:
            trace = go.Scatter(
                x=[x for x, _ in one.curve], y=[y for _, y in one.curve], customdata=[one.name] * len(one.curve),
                mode="lines", line={"color": colours[one.group], "width": 1.4}, name=one.name,
                hovertemplate="%{customdata}<br>EV %{y:.4f} at %{x:,} tokens<extra></extra>",
            )  # fmt: skip
            figure.add_trace(trace, row=place // columns + 1, col=place % columns + 1)
        for index, group in enumerate(groups):
            # The sparsest curve is the lowest: its label stands under it, out of the others' way.
            _label_curve(figure, [m for m in mine if m.group == group], place, columns, below=index == 0)
    # The first steps, from nothing up, would press all that follows into a line.
    late = [y for m in shown for _, y in m.curve[max(1, len(m.curve) // 20) :]]
    if late:
        low, high = min(late), max(late)
        figure.update_yaxes(range=[low - 0.05 * (high - low), high + 0.05 * (high - low)])
    figure.update_xaxes(title_text="training tokens", row=max(1, math.ceil(len(panels) / columns)))
    figure.update_yaxes(title_text="explained variance", col=1)
    return figure.update_annotations(font={"color": theme.muted, "size": 11})


def _label_curve(figure: go.Figure, group: Members, place: int, columns: int, *, below: bool) -> None:
    """The L0 of members that differ in their seed alone, at the end of the first one's curve."""
    found = [m.l0 for m in group if m.l0 is not None]
    if found:
        x, y = group[0].curve[-1]
        figure.add_annotation(
            x=x, y=y, text=f"L0 {sum(found) / len(found):.0f}", xanchor="right", yshift=-10 if below else 9,
            showarrow=False, row=place // columns + 1, col=place % columns + 1,
        )  # fmt: skip
