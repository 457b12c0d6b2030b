"""Steering: the dose-response beside bands of control directions, what it costs elsewhere, and causal sweeps."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float
from numpy import ndarray
from plotly.subplots import make_subplots

from dashboards.theme import CATEGORIES, LIGHT, Theme, end_labels, template
from interp.causal_sweep import CausalSweep
from interp.effects import Estimate
from interp.steering_results import ControlArm, DoseResponse

_FILLS = ("rgba(127,127,127,0.20)", "rgba(0,158,115,0.16)", "rgba(204,121,167,0.18)")
_LINES = ("#7f7f7f", CATEGORIES[2], CATEGORIES[3])
_RIGHT = 172
_LONGEST_TITLE = 24
_PER_ROW = 4
LEAST_KL = 1e-6
"""Smaller side effects stand at the axis's end."""


def dose_response_figure(result: DoseResponse, theme: Theme = LIGHT) -> go.Figure:
    """Change of the outcome by strength with its interval; bands hold the middle 95% of each kind of controls."""
    figure = go.Figure()
    labels, ends = [], []
    for index, arm in enumerate(result.arms):
        for trace in _band(result, arm, index):
            figure.add_trace(trace)
        labels.append(f"{arm.effects.shape[0]} {arm.name}")
        ends.append(float(arm.band()[1, -1]))
    for trace in _own(result.strengths, result.effect, result.direction, theme.accent):
        figure.add_trace(trace)
    labels.append(result.direction)
    ends.append(float(result.effect.value[-1]))
    whiskers = [] if result.effect.interval is None else list(result.effect.interval)
    low, high = _limits([*(np.asarray(trace.y, dtype=np.float64) for trace in figure.data), *whiskers])
    figure.update_layout(template=template(theme), margin={"r": _RIGHT, "t": 16})
    figure.update_xaxes(title_text=f"strength (1 adds a vector of length {result.norm:.3g})")
    figure.update_yaxes(title_text=_change(result), range=[low, high])
    figure.add_hline(y=0, line={"color": theme.muted, "width": 1})
    heights = [(end - low) / (high - low) for end in ends]
    return end_labels(figure, labels, heights, theme)


def _band(result: DoseResponse, arm: ControlArm, index: int) -> tuple[go.Scatter, go.Scatter]:
    low, high = arm.band()
    line = {"color": _LINES[index % len(_LINES)], "width": 1, "dash": "dot"}
    return (
        go.Scatter(x=result.strengths, y=low, mode="lines", line=line, hoverinfo="skip"),
        go.Scatter(
            x=result.strengths, y=high, mode="lines", line=line, fill="tonexty", fillcolor=_FILLS[index % len(_FILLS)],
            customdata=np.stack([low, arm.effects.mean(0), arm.p_values(result.effect.value)], axis=1),
            hovertemplate=f"{arm.name}, %{{x}}: 95%% of them from %{{customdata[0]:.3f}} to %{{y:.3f}}, mean "
            "%{customdata[1]:.3f}; p %{customdata[2]:.3f}<extra></extra>".replace("%%", "%"),
        ),
    )  # fmt: skip


def _own(x: Float[ndarray, " s"], effect: Estimate, name: str, colour: str) -> list[go.Scatter]:
    traces = []
    if effect.interval is not None:
        whiskers = {"array": effect.interval[1] - effect.value, "arrayminus": effect.value - effect.interval[0]}
    else:
        whiskers = {"array": np.zeros(len(x))}
    traces.append(
        go.Scatter(
            x=x, y=effect.value, mode="lines+markers", line={"color": colour, "width": 2}, marker={"size": 6},
            error_y={**whiskers, "color": colour, "thickness": 1.2, "width": 4},
            hovertemplate=f"{name}, %{{x}}: %{{y:.3f}}<extra></extra>",
        )
    )  # fmt: skip
    return traces


def _limits(series: Sequence[Float[ndarray, " s"]]) -> tuple[float, float]:
    held = np.concatenate([*series, np.zeros(1)])
    low, high = float(held.min()), float(held.max())
    room = 0.08 * (high - low) or 1.0
    return low - room, high + room


def trade_off_figure(result: DoseResponse, theme: Theme = LIGHT) -> go.Figure:
    """Effect against KL on neutral text, a point a strength; controls as small points of the same strengths."""
    figure = go.Figure()
    figure.update_layout(template=template(theme), margin={"r": _RIGHT, "t": 16})
    side = result.side_effects
    if side is None:
        figure.add_annotation(text="side effects were not measured", x=0.5, y=0.5, xref="paper", yref="paper")
        return figure
    moved = result.strengths != 0
    for index, arm in enumerate(result.arms):
        if arm.kl is None:
            continue
        kl, effect = arm.kl[:, moved], arm.effects[: arm.kl.shape[0]][:, moved]
        figure.add_trace(_dots(kl, effect, arm.name, _LINES[index % len(_LINES)]))
    names = [f"{s:+g}" for s in result.strengths[moved]]
    figure.add_trace(
        go.Scatter(
            x=side.kl.value[moved].clip(LEAST_KL), y=result.effect.value[moved], mode="markers+text", text=names,
            textposition="top center", textfont={"color": theme.ink, "size": 11}, name=result.direction,
            marker={"color": theme.accent, "size": 9}, customdata=side.perplexity.value[moved],
            hovertemplate=f"{result.direction}, strength %{{text}}: %{{y:.3f}} at KL %{{x:.4f}}, perplexity "
            "%{customdata:.2f}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_layout(showlegend=True, margin={"t": 40, "r": 20})
    figure.update_xaxes(type="log", title_text="KL from the unsteered model on neutral text, nats a token (log)")
    figure.update_yaxes(title_text=_change(result))
    figure.add_hline(y=0, line={"color": theme.muted, "width": 1})
    return figure


def _dots(kl: Float[ndarray, "k s"], effect: Float[ndarray, "k s"], name: str, colour: str) -> go.Scatter:
    return go.Scatter(
        x=kl.ravel().clip(LEAST_KL), y=effect.ravel(), mode="markers", name=name,
        marker={"color": colour, "size": 4, "opacity": 0.45},
        hovertemplate=f"{name}: %{{y:.3f}} at KL %{{x:.4f}}<extra></extra>",
    )  # fmt: skip


def causal_sweep_figure(sweep: CausalSweep, theme: Theme = LIGHT, *, most: int = 8) -> go.Figure:
    """ATE by value, a small plot for each outcome; of many codes those with the largest slopes, the rest in grey."""
    n = len(sweep.outcomes)
    columns = min(_PER_ROW, n)
    figure = make_subplots(rows=-(-n // columns), cols=columns, subplot_titles=sweep.outcomes)
    figure.update_annotations(font={"size": 12, "color": theme.ink})
    order = np.argsort(-np.abs(sweep.slope.value).max(1), kind="stable")
    # Okabe-Ito's blue is too near the accent.
    colours = (theme.accent, *CATEGORIES[1:])
    for y in range(n):
        place = {"row": y // columns + 1, "col": y % columns + 1}
        for rank, code in reversed(list(enumerate(order))):
            named, shown = rank < min(most, len(colours)), sweep.codes[code]
            figure.add_trace(
                go.Scatter(
                    x=sweep.values, y=sweep.ate.value[code, :, y], mode="lines", name=shown,
                    legendgroup=shown, showlegend=named and y == 0,
                    line={"color": colours[rank] if named else theme.muted, "width": 2 if named else 1},
                    opacity=1.0 if named else 0.4, hovertemplate=f"{shown} at %{{x:.2f}}: %{{y:.3f}}<extra></extra>",
                ),
                **place,
            )  # fmt: skip
        figure.update_xaxes(title_text="value of the code", **place)
    figure.update_yaxes(title_text="ATE", col=1)
    figure.update_layout(
        template=template(theme), margin={"t": 56}, showlegend=True,
        legend={"y": 1.0, "yref": "container", "yanchor": "top", "traceorder": "reversed"},
    )  # fmt: skip
    return figure


def _change(result: DoseResponse) -> str:
    """The axis's title: an outcome with a long name is told beside the figure."""
    what = f"change of {result.outcome}" if len(result.outcome) <= _LONGEST_TITLE else "change of the outcome"
    return f"{what}, {result.units}" if result.units else what
