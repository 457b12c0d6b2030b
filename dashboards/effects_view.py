"""Grids of effects: heat maps with tokens or heads on their axes, bars with whiskers where there is one axis."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards.theme import LIGHT, Theme, template
from interp.effects import EffectGrid
from interp.errors import ShapeError

_MOST_BARS = 40
_CELL_HEIGHT, _BAR_HEIGHT = 26, 22
_LEAST_WIDTH, _LETTER, _BUTTONS = 440, 7, 30
"""Pixels: of a grid, of a label's letter, and above the panels for Plotly's buttons."""
_BACKGROUND = {"light": "#ffffff", "dark": "#1c1f26"}


def effects_figure(grid: EffectGrid, theme: Theme = LIGHT) -> go.Figure:
    """Bars for a grid of one axis, heat maps for one of two or three.

    Raises: ShapeError for more axes.
    """
    return effect_bars(grid, theme) if len(grid.axes) == 1 else effect_heatmap(grid, theme)


def effect_heatmap(grid: EffectGrid, theme: Theme = LIGHT) -> go.Figure:
    """Effects over the last two axes, a panel for each place of the first where there are three; zero has no colour.

    Columns are places on the last axis, so that tokens that occur twice stay apart. The range is symmetric and the
    same in all panels. Hover gives the exact effect and its interval.

    Raises: ShapeError for a grid of another number of axes.
    """
    if len(grid.axes) not in (2, 3):
        raise ShapeError(f"got a grid of {len(grid.axes)} axes; a heat map takes two or three")
    panels = grid.axes[0].labels if len(grid.axes) == 3 else ("",)
    rows, columns = grid.axes[-2:]
    # Wide panels stand below each other, narrow ones side by side.
    across = 1 if len(columns) > 12 else min(len(panels), 3)
    down = -(-len(panels) // across)
    figure = make_subplots(
        rows=down, cols=across, shared_yaxes=True, shared_xaxes=True, horizontal_spacing=0.03,
        vertical_spacing=min(0.1, 0.4 / down), subplot_titles=panels if len(panels) > 1 else None,
    )  # fmt: skip
    figure.update_annotations(font={"size": 12, "color": theme.ink})
    effect = grid.effect.reshape(len(panels), len(rows), len(columns))
    interval = None if grid.interval is None else grid.interval.reshape(2, *effect.shape)
    limit = _limit(grid)
    for index, name in enumerate(panels):
        place = {"row": index // across + 1, "col": index % across + 1}
        hover = _hover(grid, rows.labels, columns.labels, name, effect[index], _of_panel(interval, index))
        heat = go.Heatmap(
            z=effect[index], zmin=-limit, zmax=limit, colorscale=_scale(theme), customdata=hover,
            hovertemplate="%{customdata}<extra></extra>", xgap=1, ygap=1, showscale=index == 0,
            colorbar=_bar(_short_units(grid), theme),
        )  # fmt: skip
        figure.add_trace(heat, **place)
        figure.update_yaxes(tickvals=_ticks(len(rows)), ticktext=_at(rows.labels, _ticks(len(rows))), **place)
        figure.update_xaxes(tickvals=_ticks(len(columns)), ticktext=_at(columns.labels, _ticks(len(columns))), **place)
        if place["row"] == down or index + across >= len(panels):
            figure.update_xaxes(title_text=columns.name, showticklabels=True, **place)
        if place["col"] == 1:
            figure.update_yaxes(title_text=rows.name, **place)
    # A few cells drawn over the whole page look like more than they are.
    narrow = _width(rows.labels, len(columns) * across) if len(columns) * across <= 12 else None
    figure.update_layout(
        template=template(theme),
        width=narrow,
        height=110 + down * (40 + _CELL_HEIGHT * max(len(rows), 3)),
        margin={"t": _BUTTONS + (20 if len(panels) > 1 else 0)},
    )
    return figure.update_xaxes(showgrid=False, tickangle=-60 if _long(columns.labels) else 0).update_yaxes(
        showgrid=False
    )


def _width(labels: Sequence[str], n_columns: int) -> int:
    """Room for the row's labels, their title and the colour bar beside the cells; Plotly drops margins otherwise."""
    beside = 150 + _LETTER * max(map(len, labels))
    return max(_LEAST_WIDTH, beside + max(64 * n_columns, 160))


def effect_bars(grid: EffectGrid, theme: Theme = LIGHT) -> go.Figure:
    """Effects of the strongest places, the strongest on top, with their intervals as whiskers; any number of axes."""
    strongest = grid.strongest(_MOST_BARS)
    shown = strongest if len(grid.axes) > 1 or len(grid.axes[0]) > _MOST_BARS else _in_order(grid)
    names = [", ".join(_named(grid, labels)) for labels, _, _ in shown]
    effects = np.array([effect for _, effect, _ in shown])
    # A percentile interval need not hold the mean: whiskers have no negative length.
    above = [0.0 if held is None else max(held[1] - effect, 0.0) for _, effect, held in shown]
    below = [0.0 if held is None else max(effect - held[0], 0.0) for _, effect, held in shown]
    hover = [f"{name}<br>{_value(effect, held)}" for name, (_, effect, held) in zip(names, shown, strict=True)]
    bars = go.Bar(
        x=effects, y=list(range(len(names))), orientation="h", width=0.7, customdata=hover,
        marker={"color": [theme.up if effect >= 0 else theme.down for effect in effects], "opacity": 0.8},
        error_x={
            "type": "data", "array": above, "arrayminus": below, "visible": any(above) or any(below),
            "color": theme.ink, "thickness": 1, "width": 3,
        },
        hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip
    figure = go.Figure(bars).update_layout(template=template(theme), height=90 + _BAR_HEIGHT * max(len(names), 4))
    figure.update_yaxes(tickvals=list(range(len(names))), ticktext=names, autorange="reversed", showgrid=False)
    figure.update_xaxes(title_text=_measured(grid), showgrid=True, zeroline=True, zerolinecolor=theme.muted)
    return figure


def _in_order(grid: EffectGrid) -> list[tuple[tuple[str, ...], float, tuple[float, float] | None]]:
    by_labels = {found[0]: found for found in grid.strongest(grid.effect.size)}
    return [by_labels[(label,)] for label in grid.axes[0].labels]


def _named(grid: EffectGrid, labels: Sequence[str]) -> list[str]:
    plain = {"component", "feature", "sender", "receiver", "position"} if len(grid.axes) > 1 else {grid.axes[0].name}
    return [
        label if axis.name in plain else f"{axis.name} {label}" for axis, label in zip(grid.axes, labels, strict=True)
    ]


def _bar(title: str, theme: Theme) -> dict[str, Any]:
    font = {"size": 11, "color": theme.muted}
    # Beside its ticks the title would stand on them.
    return {"thickness": 10, "outlinewidth": 0, "tickfont": font, "title": {"text": title, "side": "top", "font": font}}


def _limit(grid: EffectGrid) -> float:
    return float(np.abs(np.nan_to_num(grid.effect)).max()) or 1.0


def _scale(theme: Theme) -> list[tuple[float, str]]:
    return [(0.0, theme.down), (0.5, _BACKGROUND[theme.name]), (1.0, theme.up)]


def _of_panel(interval: np.ndarray | None, panel: int) -> np.ndarray | None:
    return None if interval is None else interval[:, panel]


def _hover(
    grid: EffectGrid,
    rows: Sequence[str],
    columns: Sequence[str],
    panel: str,
    effect: np.ndarray,
    interval: np.ndarray | None,
) -> list[list[str]]:
    first = f"{panel}<br>" if panel else ""
    row_name, column_name = (axis.name for axis in grid.axes[-2:])

    def text(i: int, j: int) -> str:
        held = None if interval is None else (float(interval[0, i, j]), float(interval[1, i, j]))
        return f"{first}{row_name} {rows[i]}, {column_name} {columns[j]}<br>{_value(float(effect[i, j]), held)}"

    return [[text(i, j) for j in range(len(columns))] for i in range(len(rows))]


def _value(effect: float, held: tuple[float, float] | None) -> str:
    return signed(effect) + ("" if held is None else f" (95% interval {signed(held[0])} to {signed(held[1])})")


def signed(value: float) -> str:
    """Four digits with a sign; zero has none."""
    return f"{value:+.4g}" if value else "0"


def _short_units(grid: EffectGrid) -> str:
    return "effect" if len(grid.units) > 16 else grid.units or "effect"


def _measured(grid: EffectGrid) -> str:
    if grid.units.startswith("share"):
        return "effect (share)"
    return f"{grid.outcome} ({grid.units})" if grid.units else grid.outcome


def _ticks(n: int) -> list[int]:
    """Every place, or as many as can be read."""
    return list(range(0, n, -(-n // 64)))


def _at(labels: Sequence[str], places: Sequence[int]) -> list[str]:
    return [labels[place] for place in places]


def _long(labels: Sequence[str]) -> bool:
    return max(len(label) for label in labels) > 3
