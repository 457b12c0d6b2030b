"""The toy of nested features: a figure per metric, an arm per row, a point per seed."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards.theme import CATEGORIES, LIGHT, Theme, template

TOY_METRICS = (
    ("parents.recall_with_child", "parent recall when a child fires"),
    ("parents.precision", "parent precision"),
    ("parents.f1", "parent F1"),
    ("parents.cosine", "parent cosine"),
    ("explained_variance", "explained variance"),
)
NULL_ARMS = ("frozen_decoder", "untrained")


def toy_figure(arms: Mapping[str, Mapping[str, Mapping[str, Any]]], theme: Theme = LIGHT) -> go.Figure:
    """Each seed as a point, the mean as a line, for the summary of a toy study at one L0; null arms in grey."""
    figure = make_subplots(rows=1, cols=len(TOY_METRICS), shared_yaxes=True, horizontal_spacing=0.03)
    figure.update_layout(template=template(theme), margin={"l": 110, "t": 32, "r": 12}, height=60 + 42 * len(arms))
    colours = _colours(list(arms), theme)
    for column, (metric, title) in enumerate(TOY_METRICS, start=1):
        for arm, metrics in arms.items():
            found = metrics[metric]
            figure.add_trace(_mean(arm, float(found["mean"]), colours[arm]), row=1, col=column)
            figure.add_trace(_points(arm, found["seeds"], colours[arm]), row=1, col=column)
        figure.update_xaxes(
            range=[-0.05, 1.05], tickvals=[0, 0.5, 1], title_text=title, showgrid=True, row=1, col=column
        )
        figure.update_yaxes(showgrid=False, autorange="reversed", row=1, col=column)
    return figure


def _points(arm: str, seeds: Sequence[float], colour: str) -> go.Scatter:
    return go.Scatter(
        x=list(seeds), y=[_name(arm)] * len(seeds), mode="markers", name=arm, customdata=list(range(len(seeds))),
        marker={"color": colour, "size": 8, "opacity": 0.75},
        hovertemplate=f"{_name(arm)}, seed %{{customdata}}: %{{x:.3f}}<extra></extra>",
    )  # fmt: skip


def _mean(arm: str, mean: float, colour: str) -> go.Scatter:
    return go.Scatter(
        x=[mean], y=[_name(arm)], mode="markers", name=f"{arm} mean",
        marker={"symbol": "line-ns", "size": 22, "line": {"color": colour, "width": 2}},
        hovertemplate=f"{_name(arm)}, mean: %{{x:.3f}}<extra></extra>",
    )  # fmt: skip


def _name(arm: str) -> str:
    return {"l1": "L1", "batch_topk": "BatchTopK", "matryoshka": "Matryoshka"}.get(arm, arm.replace("_", " "))


def _colours(arms: Sequence[str], theme: Theme) -> dict[str, str]:
    trained = [arm for arm in arms if arm not in NULL_ARMS]
    return dict(zip(trained, CATEGORIES, strict=False)) | dict.fromkeys(NULL_ARMS, theme.muted)
