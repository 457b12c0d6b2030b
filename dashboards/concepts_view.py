"""Concept benchmarks and the name hierarchy: features beside the arms that they are to be read against."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards.theme import CATEGORIES, LIGHT, Theme, template
from probes.benchmark_rows import BAG_OF_TOKENS, DENSE, FEATURES, MAJORITY, ORACLE, RANDOM, Pooled

_REFERENCES = ((DENSE, "solid"), (BAG_OF_TOKENS, "dash"), (MAJORITY, "dot"))
_HIERARCHY_METRICS = (
    ("precision", "precision"), ("recall", "recall"), ("f1", "F1"), ("hole_share", "names it is silent on"),
)  # fmt: skip
_LEARNED_ARMS = ("batch_topk", "matryoshka")
_PER_ROW = 4


def probing_figure(rows: Sequence[Pooled], theme: Theme = LIGHT) -> go.Figure:
    """Held-out accuracy by number of features, a small plot for each concept; what needs no feature as level lines."""
    concepts = list(dict.fromkeys(row.concept for row in rows))
    columns = min(_PER_ROW, len(concepts)) or 1
    n_rows = -(-len(concepts) // columns) or 1
    figure = make_subplots(
        rows=n_rows, cols=columns, shared_yaxes=True, subplot_titles=concepts, vertical_spacing=0.34 / n_rows
    )
    figure.update_annotations(font={"size": 12, "color": theme.ink})
    for index, concept in enumerate(concepts):
        place = {"row": index // columns + 1, "col": index % columns + 1}
        held = [row for row in rows if row.concept == concept]
        ks = sorted({row.n_features for row in held if row.n_features is not None})
        for arm, dash in _REFERENCES:
            for row in (row for row in held if row.arm == arm):
                figure.add_trace(_level(row, ks, dash, theme, legend=index == 0), **place)
        for arm, colour in ((RANDOM, theme.muted), (FEATURES, theme.accent)):
            own = sorted(
                (r for r in held if r.arm == arm and r.n_features is not None), key=lambda r: r.n_features or 0
            )
            figure.add_trace(_line(own, arm, colour, legend=index == 0), **place)
        lowest = index + columns >= len(concepts)
        figure.update_xaxes(title_text="features" if lowest else None, tickvals=ks, type="log", **place)
    figure.update_yaxes(range=[0.3, 1.04], tickvals=[0.4, 0.6, 0.8, 1.0])
    figure.update_yaxes(title_text="held-out accuracy", col=1)
    figure.update_layout(template=template(theme), height=80 + 190 * n_rows, showlegend=True)
    figure.update_layout(
        margin={"l": 56, "r": 20, "t": 84, "b": 48}, legend={"y": 1.0, "yref": "container", "yanchor": "top"}
    )
    return figure


def _line(rows: Sequence[Pooled], arm: str, colour: str, *, legend: bool) -> go.Scatter:
    spread = [row.sd or 0.0 for row in rows]
    return go.Scatter(
        x=[row.n_features for row in rows], y=[row.mean for row in rows], name=arm, legendgroup=arm, showlegend=legend,
        mode="lines+markers", line={"color": colour, "width": 2}, marker={"size": 6},
        error_y={"array": spread, "thickness": 1, "width": 3, "visible": any(spread)},
        hovertemplate=f"{arm}, %{{x}}: %{{y:.3f}}<extra></extra>",
    )  # fmt: skip


def _level(row: Pooled, ks: Sequence[int], dash: str, theme: Theme, *, legend: bool) -> go.Scatter:
    return go.Scatter(
        x=[ks[0], ks[-1]], y=[row.mean, row.mean], name=row.arm, legendgroup=row.arm, showlegend=legend, mode="lines",
        line={"color": theme.ink, "width": 1, "dash": dash}, hovertemplate=f"{row.arm}: %{{y:.3f}}<extra></extra>",
    )  # fmt: skip


def concept_bars(rows: Sequence[Pooled], *, quantity: str, theme: Theme = LIGHT) -> go.Figure:
    """One quantity (SCR's repair, TPP's score) by concept and arm, at the most features measured; seeds as points."""
    held = [row for row in rows if row.quantity == quantity and row.mean == row.mean]
    most = max((row.n_features for row in held if row.n_features is not None), default=0)
    held = [row for row in held if row.n_features in (None, most)]
    concepts = list(dict.fromkeys(row.concept for row in held))
    figure = go.Figure()
    colours = {FEATURES: theme.accent, RANDOM: theme.muted, ORACLE: CATEGORIES[2]}
    arms = [arm for arm in colours if any(row.arm == arm for row in held)]
    for offset, arm in enumerate(arms):
        own = {row.concept: row for row in held if row.arm == arm}
        at = [concepts.index(concept) + (offset - (len(arms) - 1) / 2) * 0.25 for concept in own]
        figure.add_trace(_bars(at, list(own.values()), arm, colours[arm]))
        if arm != ORACLE:
            figure.add_trace(_seeds(at, list(own.values()), arm, theme))
    figure.update_layout(template=template(theme), showlegend=True, height=100 + 62 * len(concepts))
    figure.update_layout(margin={"l": 190, "r": 24, "t": 40, "b": 48}, xaxis_title_text=f"{quantity}, {most} features")
    figure.update_xaxes(showgrid=True, zeroline=True, zerolinecolor=theme.muted, zerolinewidth=1)
    names = [concept.split(": ", 1)[-1] if len(concept) > 24 else concept for concept in concepts]
    figure.update_yaxes(tickvals=list(range(len(concepts))), ticktext=names, autorange="reversed", showgrid=False)
    return figure


def _bars(at: Sequence[float], rows: Sequence[Pooled], arm: str, colour: str) -> go.Bar:
    return go.Bar(
        x=[row.mean for row in rows], y=list(at), orientation="h", width=0.22, name=arm,
        marker={"color": colour, "opacity": 0.75}, customdata=[row.concept for row in rows],
        hovertemplate=f"%{{customdata}}<br>{arm}: %{{x:.3f}}<extra></extra>",
    )  # fmt: skip


def _seeds(at: Sequence[float], rows: Sequence[Pooled], arm: str, theme: Theme) -> go.Scatter:
    points = [(value, y) for y, row in zip(at, rows, strict=True) for value in row.seeds if len(row.seeds) > 1]
    return go.Scatter(
        x=[value for value, _ in points], y=[y for _, y in points], mode="markers", showlegend=False,
        marker={"color": theme.ink, "size": 5}, hovertemplate=f"{arm}, one seed: %{{x:.3f}}<extra></extra>",
    )  # fmt: skip


def hierarchy_figure(arms: Mapping[str, Mapping[str, Mapping[str, Any]]], theme: Theme = LIGHT) -> go.Figure:
    """Precision, recall, F1 and holes of one parent's best latent, an arm per row, a point per seed."""
    figure = make_subplots(rows=1, cols=len(_HIERARCHY_METRICS), shared_yaxes=True, horizontal_spacing=0.03)
    figure.update_layout(template=template(theme), margin={"l": 110, "t": 12, "r": 12}, height=60 + 42 * len(arms))
    colours = dict(zip(_LEARNED_ARMS, CATEGORIES, strict=False))
    for column, (metric, title) in enumerate(_HIERARCHY_METRICS, start=1):
        for arm, metrics in arms.items():
            colour, name, found = colours.get(arm, theme.muted), _arm_name(arm), metrics[metric]
            symbol = {"symbol": "line-ns", "size": 22, "line": {"color": colour, "width": 2}}
            for x, marker in (
                ([found["mean"]], symbol),
                (found["seeds"], {"color": colour, "size": 8, "opacity": 0.75}),
            ):
                trace = go.Scatter(
                    x=x, y=[name] * len(x), mode="markers", marker=marker, name=name,
                    hovertemplate=f"{name}: %{{x:.3f}}<extra></extra>",
                )  # fmt: skip
                figure.add_trace(trace, row=1, col=column)
        figure.update_xaxes(
            range=[-0.05, 1.05], tickvals=[0, 0.5, 1], title_text=title, showgrid=True, row=1, col=column
        )
        figure.update_yaxes(showgrid=False, autorange="reversed", row=1, col=column)
    return figure


def _arm_name(arm: str) -> str:
    return {"batch_topk": "BatchTopK", "matryoshka": "Matryoshka"}.get(arm, arm.replace("_", " "))
