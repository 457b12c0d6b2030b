"""A circuit as figures: its graph from left to right, what it carries by size, and attribution against ablation."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards.theme import CATEGORIES, LIGHT, Theme, template
from interp.circuits import OUTCOME, Circuit, CircuitEdge, CircuitNode
from interp.effects import EffectGrid
from interp.faithfulness import FaithfulnessCurve

_ROW = 34


def columns(circuit: Circuit) -> list[tuple[str, list[CircuitNode]]]:
    """Nodes by where they stand, from the input to the output: hooks of features, layers of components."""
    order: dict[tuple[int, int, str], list[CircuitNode]] = {}
    for node in circuit.nodes:
        order.setdefault(_place(node), []).append(node)
    held = {key: sorted(nodes, key=lambda node: (node.kind == "error", -node.effect)) for key, nodes in order.items()}
    return [(key[2], held[key]) for key in sorted(held)]


def _place(node: CircuitNode) -> tuple[int, int, str]:
    """Layer, place within it, and the column's name."""
    if node.kind == "embedding":
        return (-1, 0, "embedding")
    if node.kind in ("head", "mlp"):
        return (node.layer, int(node.kind == "mlp"), f"{'heads' if node.kind == 'head' else 'MLP'} {node.layer}")
    within = ("ln1", "attn", "resid_mid", "ln2", "mlp", "resid_post")
    rank = next((index for index, part in enumerate(within) if part in node.hook), len(within))
    return (node.layer, rank, node.hook)


def short_name(node: CircuitNode) -> str:
    """What is written at a node."""
    if node.kind not in ("feature", "error"):
        return node.name
    return "error" if node.index is None else f"{node.index}"


def circuit_figure(circuit: Circuit, theme: Theme = LIGHT) -> go.Figure:
    """The graph: nodes and edges coloured by signed effect, edges wider where stronger; blue speaks for it."""
    held = columns(circuit)
    at = {
        node.name: (float(x), -float(y - len(nodes) / 2))
        for x, (_, nodes) in enumerate(held)
        for y, node in enumerate(nodes)
    }
    at[OUTCOME] = (float(len(held)), 0.5)
    figure = go.Figure()
    strongest = max((abs(edge.effect) for edge in circuit.edges), default=1.0)
    for edge in circuit.edges:
        figure.add_trace(_edge_line(edge, at, strongest, theme))
    figure.add_trace(_markers(circuit.nodes, at, theme))
    x, y = at[OUTCOME]
    figure.add_annotation(x=x, y=y, text=circuit.outcome, xanchor="left", xshift=4, font={"color": theme.ink})
    names = [name.replace("blocks.", "").replace("hook_", "") for name, _ in held]
    most = max((len(nodes) for _, nodes in held), default=1)
    figure.update_layout(template=template(theme), height=90 + _ROW * most, margin={"l": 12, "r": 96, "t": 12, "b": 36})
    figure.update_xaxes(tickvals=list(range(len(held))), ticktext=names, showline=False, range=[-0.4, len(held) + 0.2])
    figure.update_yaxes(visible=False)
    return figure


def _edge_line(edge: CircuitEdge, at: dict[str, tuple[float, float]], strongest: float, theme: Theme) -> go.Scatter:
    (x0, y0), (x1, y1) = at[edge.source], at[edge.target]
    share = abs(edge.effect) / strongest
    return go.Scatter(
        x=[x0, (x0 + x1) / 2, x1], y=[y0, (y0 + y1) / 2, y1], mode="lines", opacity=0.15 + 0.65 * share,
        line={"width": 0.6 + 4 * share, "color": theme.up if edge.effect > 0 else theme.down},
        hovertemplate=f"{edge.source} → {edge.target}: {edge.effect:+.4f}<extra></extra>",
    )  # fmt: skip


def _markers(nodes: Sequence[CircuitNode], at: dict[str, tuple[float, float]], theme: Theme) -> go.Scatter:
    limit = max((abs(node.effect) for node in nodes), default=1.0)
    return go.Scatter(
        x=[at[node.name][0] for node in nodes], y=[at[node.name][1] for node in nodes],
        mode="markers+text", text=[short_name(node) for node in nodes], textposition="top center",
        textfont={"size": 10, "color": theme.muted},
        marker={
            "size": 14, "cmin": -limit, "cmax": limit, "color": [node.effect for node in nodes],
            "colorscale": [[0, theme.down], [0.5, theme.panel], [1, theme.up]],
            "symbol": ["square" if node.kind == "error" else "circle" for node in nodes],
            "line": {"color": theme.muted, "width": 1},
        },
        customdata=[[node.name, " ".join(node.tokens), _signed(node.ablation)] for node in nodes],
        hovertemplate="%{customdata[0]}<br>attribution %{marker.color:+.3f}, ablation %{customdata[2]}"
        "<br>%{customdata[1]}<extra></extra>",
    )  # fmt: skip


def _signed(value: float | None) -> str:
    return "not measured" if value is None else f"{value:+.3f}"


def faithfulness_figure(curves: Sequence[FaithfulnessCurve], theme: Theme = LIGHT) -> go.Figure:
    """Faithfulness by size, a panel for each arm, beside the rest without the circuit and 95% of random circuits."""
    figure = make_subplots(
        rows=1, cols=max(len(curves), 1), shared_yaxes=True, horizontal_spacing=0.04,
        subplot_titles=[curve.arm for curve in curves],
    )  # fmt: skip
    figure.update_annotations(font={"size": 12, "color": theme.ink})
    for column, curve in enumerate(curves, start=1):
        for trace in _curve_traces(curve, theme, legend=column == 1):
            figure.add_trace(trace, row=1, col=column)
        ticks = [index for index, size in enumerate(curve.sizes) if index % 2 == 0 or size == curve.sizes[-1]]
        # Sizes double: places are equally far apart, and nothing and everything have one too.
        figure.update_xaxes(
            title_text="nodes in the circuit", tickvals=ticks, ticktext=[f"{curve.sizes[i]:,}" for i in ticks],
            row=1, col=column,
        )  # fmt: skip
    for level in (0, 1):
        figure.add_hline(y=level, line={"color": theme.line, "width": 1})
    figure.update_yaxes(title_text="share of the behaviour", col=1)
    figure.update_layout(
        template=template(theme), height=380, showlegend=True, margin={"l": 56, "r": 20, "t": 70, "b": 48},
        legend={"y": 1.0, "yref": "container", "yanchor": "top"},
    )  # fmt: skip
    return figure


def _curve_traces(curve: FaithfulnessCurve, theme: Theme, *, legend: bool) -> list[go.Scatter]:
    x = list(range(len(curve.sizes)))
    drawn = [i for i in x if np.isfinite(curve.random[:, i]).any()]
    traces = []
    if drawn:
        low, middle, high = np.nanquantile(curve.random[:, drawn], [0.025, 0.5, 0.975], axis=0)
        name = f"{len(curve.random)} random circuits, 95%"
        traces.append(_band(drawn, low, high, theme.muted, name, legend=legend))
        traces.append(_line(drawn, middle, curve, "random, median", theme.muted, "dot", legend=legend))
    if curve.interval is not None:
        low, high = curve.interval
        traces.append(_band(x, low, high, theme.accent, "95% interval over clusters", legend=legend))
    traces.append(_line(x, curve.rest, curve, "all but the circuit", CATEGORIES[1], "dash", legend=legend))
    traces.append(_line(x, curve.faithfulness, curve, "the circuit alone", theme.accent, "solid", legend=legend))
    return traces


def _band(x: Sequence[int], low: np.ndarray, high: np.ndarray, colour: str, name: str, *, legend: bool) -> go.Scatter:
    return go.Scatter(
        x=[*x, *reversed(x)], y=[*high, *reversed(low)], fill="toself", mode="lines", hoverinfo="skip", name=name,
        fillcolor=colour, opacity=0.18, line={"width": 0}, legendgroup=name, showlegend=legend,
    )  # fmt: skip


def _line(
    x: Sequence[int], y: np.ndarray, curve: FaithfulnessCurve, name: str, colour: str, dash: str, *, legend: bool
) -> go.Scatter:
    return go.Scatter(
        x=list(x), y=y, name=name, legendgroup=name, showlegend=legend, mode="lines+markers", marker={"size": 5},
        line={"color": colour, "width": 2, "dash": dash}, customdata=[f"{curve.sizes[i]:,}" for i in x],
        hovertemplate=f"{name}, %{{customdata}} nodes: %{{y:.3f}}<extra></extra>",
    )  # fmt: skip


def agreement_figure(
    labels: Sequence[str], estimated: Sequence[float], true: Sequence[float], theme: Theme = LIGHT
) -> go.Figure:
    """Estimated against measured effects, a point each; on the line they agree."""
    both = [*estimated, *true, 0.0]
    low, high = min(both), max(both)
    pad = 0.06 * ((high - low) or 1.0)
    ends = [low - pad, high + pad]
    figure = go.Figure()
    figure.add_trace(go.Scatter(x=ends, y=ends, mode="lines", line={"color": theme.line, "width": 1}, hoverinfo="skip"))
    figure.add_trace(
        go.Scatter(
            x=list(true), y=list(estimated), mode="markers", customdata=list(labels),
            marker={"color": theme.accent, "size": 8, "opacity": 0.75, "line": {"color": theme.panel, "width": 1}},
            hovertemplate="%{customdata}<br>measured %{x:+.4f}, attribution %{y:+.4f}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_layout(template=template(theme), height=380, margin={"l": 64, "r": 20, "t": 12, "b": 48})
    figure.update_xaxes(title_text="measured effect, share", range=ends, showgrid=True, nticks=6, constrain="domain")
    # A unit is as long on both axes, so that the line stands at 45 degrees.
    figure.update_yaxes(title_text="attribution, share", range=ends, nticks=6, constrain="domain", scaleanchor="x")
    return figure


def ablation_figure(circuit: Circuit, theme: Theme = LIGHT) -> go.Figure:
    """The circuit's nodes: attribution against what ablating each alone takes away."""
    held = [node for node in circuit.nodes if node.ablation is not None]
    measured = [node.ablation for node in held if node.ablation is not None]
    return agreement_figure([node.name for node in held], [node.effect for node in held], measured, theme)


def grids_figure(estimated: EffectGrid, true: EffectGrid, theme: Theme = LIGHT) -> go.Figure:
    """Attribution against patching, a point for each place of two grids with the same axes."""
    axes = [axis.labels for axis in estimated.axes]
    labels = [" ".join(axes[d][i] for d, i in enumerate(index)) for index in np.ndindex(*estimated.effect.shape)]
    return agreement_figure(labels, estimated.effect.ravel().tolist(), true.effect.ravel().tolist(), theme)
