"""What each nested prefix of a Matryoshka SAE is worth on its own."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards.theme import LIGHT, Theme, level_colours, template
from interp.errors import ConfigError
from saes.scores import Evaluation

PREFIX_METRICS = (
    ("explained_variance", "EV"),
    ("l0", "L0, features/token"),
    ("ce_delta", "ΔCE, nats/token"),
    ("kl", "KL, nats/token"),
)


def prefix_figure(prefixes: Sequence[Mapping[str, float]], theme: Theme = LIGHT) -> go.Figure:
    """One small panel per metric over prefix width (log axis); metrics that were not measured are left out."""
    shown = [(key, title) for key, title in PREFIX_METRICS if any(row.get(key) is not None for row in prefixes)]
    figure = make_subplots(rows=1, cols=max(len(shown), 1), horizontal_spacing=0.09)
    figure.update_layout(template=template(theme), margin={"l": 44, "t": 28, "r": 12})
    widths = [row["width"] for row in prefixes]
    colours = level_colours(len(prefixes), theme) if prefixes else []
    for column, (key, title) in enumerate(shown, start=1):
        figure.add_trace(_points(widths, [row.get(key) for row in prefixes], title, colours, theme), row=1, col=column)
        figure.update_xaxes(_width_axis(widths), row=1, col=column)
        domain = figure.layout[f"xaxis{column if column > 1 else ''}"].domain
        figure.add_annotation(
            text=title, x=domain[0], y=1, xref="paper", yref="paper", xanchor="left", yanchor="bottom", yshift=8,
            showarrow=False, font={"color": theme.muted, "size": 12},
        )  # fmt: skip
    # These labels fit their margins; measuring them anew would draw the figure twice.
    return figure.update_xaxes(automargin=False).update_yaxes(automargin=False)


def evaluation_figure(scores: Evaluation, theme: Theme = LIGHT) -> go.Figure:
    """What each prefix of an evaluated dictionary is worth.

    Raises: ConfigError if it has fewer than two.
    """
    if len(scores.prefixes) < 2:
        raise ConfigError(
            f"got an Evaluation of {len(scores.prefixes)} nested prefixes, of which its figure is; expected two; show "
            "the run's folder, whose page has the scores as a table"
        )
    return prefix_figure([asdict(one) for one in scores.prefixes], theme)


def _points(
    widths: list[float], values: list[float | None], title: str, colours: list[str], theme: Theme
) -> go.Scatter:
    return go.Scatter(
        x=widths, y=values, mode="lines+markers", name=title, line={"color": theme.line, "width": 1.5},
        marker={"color": colours, "size": 8},
        hovertemplate=f"first %{{x:,}} features<br>{title} %{{y:.4g}}<extra></extra>",
    )  # fmt: skip


def _width_axis(widths: list[float]) -> dict[str, object]:
    return {
        "type": "log",
        "title_text": "first n (log)",
        "tickvals": widths[:: max(1, (len(widths) + 1) // 3)],
        "tickformat": ",d",
        "tickangle": 0,
    }
