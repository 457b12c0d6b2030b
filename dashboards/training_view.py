"""How a run went: rows of metrics.jsonl -> figures over the tokens seen."""

import math
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards.theme import LIGHT, Theme, end_labels, level_colours, template
from dashboards.timeline_view import part_colour, parts_of
from dashboards.watch_rows import SMOOTHED_ROWS, Pace

Rows = Sequence[Mapping[str, float]]
PREFIX_KEY = "loss_prefix_"
LOG_FROM = 5
"""A loss that falls by less than this factor is easier to read on a linear axis."""
_SHARES = {"language model": "share_harvest", "text": "share_text", "shuffle": "share_shuffle", "step": "share_update"}
Series = tuple[list[float], list[float], list[float]]


def loss_figure(rows: Rows, theme: Theme = LIGHT) -> go.Figure:
    """Training loss, and each prefix's own for a Matryoshka SAE."""
    prefixes = sorted({int(key.removeprefix(PREFIX_KEY)) for row in rows for key in row if key.startswith(PREFIX_KEY)})
    keys = ["loss", *(f"{PREFIX_KEY}{width}" for width in prefixes)]
    labels = ["total" if prefixes else "loss", *(f"first {width:,}" for width in prefixes)]
    colours = [theme.ink, *level_colours(len(prefixes), theme)] if prefixes else [theme.accent]
    return _lines(rows, keys, labels, colours, theme, title="loss", log=True)


def variance_figure(rows: Rows, theme: Theme = LIGHT) -> go.Figure:
    """Explained variance on the training stream."""
    return _lines(rows, ["explained_variance"], ["EV"], [theme.accent], theme, title="explained variance")


def l0_figure(rows: Rows, theme: Theme = LIGHT) -> go.Figure:
    """Active features per token."""
    figure = _lines(rows, ["l0"], ["L0"], [theme.accent], theme, title="active features per token")
    return figure.update_yaxes(rangemode="tozero")


def dead_figure(rows: Rows, theme: Theme = LIGHT) -> go.Figure:
    """Features that have not fired for long enough to count as dead."""
    figure = _lines(rows, ["dead"], ["dead"], [theme.down], theme, title="dead features")
    most = max((row["dead"] for row in rows if "dead" in row), default=0)
    return figure.update_yaxes(range=[0, max(10, 1.05 * most)])


def schedule_figure(rows: Rows, theme: Theme = LIGHT) -> go.Figure:
    """Learning rate above, gradient norm before clipping below."""
    panels = [("lr", "learning rate", theme.accent), ("grad_norm", "gradient norm", theme.ink)]
    figure = _stacked(theme)
    for row, (key, title, colour) in enumerate(panels, start=1):
        x, y, steps = _series(rows, key)
        figure.add_trace(_line(x, y, steps, title, colour), row=row, col=1)
        figure.update_yaxes(title_text=title, exponentformat="e", row=row, col=1)
    return figure


def throughput_figure(rows: Rows, theme: Theme = LIGHT, *, block_tokens: int = 0) -> go.Figure:
    """Tokens per second above; below, where the time went. Both are means over the last tokens, single rows faint.

    The model runs once a block of `block_tokens`, so that single rows have its time or none; `Pace` says over how many
    a mean is.
    """
    figure = _stacked(theme)
    x, y, steps = _series(rows, "tokens_per_s")
    single = _line(x, y, steps, "single interval", theme.muted).update(opacity=0.35, line_width=1)
    figure.add_trace(single, row=1, col=1)
    pace = Pace(block_tokens)
    timed = [pace.add(row) for row in rows if sum(parts_of(row).values()) > 0 and "tokens_per_s" in row]
    x, y, steps = _series(timed, "pace")
    figure.add_trace(_line(x, y, steps, "tokens/s, mean", theme.accent), row=1, col=1)
    parts = {part: key for part, key in _SHARES.items() if any(row.get(key, 0) > 0 for row in timed)}
    heights, below = [], 0.0
    for part, key in parts.items():
        values = [row.get(key, 0.0) for row in timed]
        trace = go.Scatter(
            x=x, y=values, mode="lines", stackgroup="time", name=part, line={"width": 0},
            fillcolor=part_colour(part, theme), hovertemplate=f"{part} %{{y:.1%}}<extra></extra>",
        )  # fmt: skip
        figure.add_trace(trace, row=2, col=1)
        heights.append(below + values[-1] / 2 if values else 0.0)
        below += values[-1] if values else 0.0
    figure.update_yaxes(title_text="tokens/s", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title_text="share of time", tickformat=".0%", range=[0, 1], row=2, col=1)
    if parts:
        # On the whole figure's scale, by which labels are kept apart.
        top = figure.layout.yaxis2.domain[1]
        end_labels(figure, [part.removeprefix("language ") for part in parts], [top * h for h in heights], theme)
    figure.add_annotation(
        text=averaged(block_tokens), x=0, y=1, xref="paper", yref="paper", xanchor="left", yanchor="bottom", yshift=6,
        showarrow=False, font={"color": theme.muted, "size": 11}, align="left",
    )  # fmt: skip
    return figure.update_layout(margin={"r": 64, "t": 44})


def averaged(block_tokens: int) -> str:
    """What `Pace` takes means over, in words."""
    blocks = f"<br>and {2 * block_tokens:,} tokens" if block_tokens else ""
    return f"bold: mean of the last {SMOOTHED_ROWS} intervals or more{blocks}; faint: single"


def _lines(
    rows: Rows,
    keys: Sequence[str],
    labels: Sequence[str],
    colours: Sequence[str],
    theme: Theme,
    *,
    title: str,
    log: bool = False,
) -> go.Figure:
    series = [_series(rows, key) for key in keys]
    values = [value for _, y, _ in series for value in y]
    log = log and bool(values) and max(values) > LOG_FROM * min(values) > 0
    figure = go.Figure(layout={"template": template(theme)})
    for (x, y, steps), label, colour in zip(series, labels, colours, strict=True):
        figure.add_trace(_line(x, y, steps, label, colour))
    figure.update_xaxes(title_text="training tokens")
    figure.update_yaxes(title_text=title)
    if log:
        figure.update_yaxes(title_text=f"{title} (log)", type="log", dtick="D2", tickformat="~g")
    if len(series) > 1 and values:
        _label_ends(figure, series, labels, theme, log=log)
    return figure


def _label_ends(figure: go.Figure, series: list[Series], labels: Sequence[str], theme: Theme, *, log: bool) -> None:
    scale = math.log10 if log else float
    every = [scale(value) for _, y, _ in series for value in y]
    low, high = min(every), max(every)
    pad = 0.04 * (high - low or 1.0)
    low, high = low - pad, high + pad
    ended = [index for index, (_, y, _) in enumerate(series) if y]
    heights = [(scale(series[index][1][-1]) - low) / (high - low) for index in ended]
    end_labels(figure, [labels[i] for i in ended], heights, theme)
    figure.update_yaxes(range=[low, high])
    figure.update_layout(margin_r=84)


def _stacked(theme: Theme) -> go.Figure:
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.08)
    figure.update_layout(template=template(theme))
    return figure.update_xaxes(title_text="training tokens", row=2, col=1)


def _series(rows: Rows, key: str) -> Series:
    """Tokens, values and steps of the rows that have this metric as a finite number."""
    found = [row for row in rows if key in row and math.isfinite(row[key])]
    return [row.get("n_tokens", row["step"]) for row in found], [row[key] for row in found], [r["step"] for r in found]


def _line(x: list[float], y: list[float], steps: list[float], name: str, colour: str) -> go.Scatter:
    return go.Scatter(
        x=x, y=y, customdata=steps, name=name, mode="lines" if len(x) > 1 else "markers",
        line={"color": colour, "width": 1.6}, marker={"color": colour},
        hovertemplate=f"{name} %{{y:.5g}}<br>%{{x:,}} tokens, step %{{customdata:,}}<extra></extra>",
    )  # fmt: skip
