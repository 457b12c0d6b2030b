"""One look for every figure and page: colours, the Plotly template, direct labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

FONT = "Inter, system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
LABEL_GAP = 0.075


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of one appearance. `levels` runs from most general to most specific."""

    name: str
    background: str
    panel: str
    ink: str
    muted: str
    line: str
    accent: str
    bar: str
    up: str
    down: str
    activation: str
    levels: tuple[str, str, str, str, str]


LIGHT = Theme(
    name="light",
    background="#fbfaf7",
    panel="#ffffff",
    ink="#1d1f24",
    muted="#6c7280",
    line="#e6e3db",
    accent="#3a5bd9",
    bar="#5b93dd",
    up="#3a5bd9",
    down="#b4552d",
    activation="214,93,14",
    levels=("#12388f", "#2b5fc4", "#4f89d8", "#7aa9e4", "#a6c6ee"),
)
DARK = Theme(
    name="dark",
    background="#15171c",
    panel="#1c1f26",
    ink="#e9e7e1",
    muted="#9aa0ad",
    line="#2c3039",
    accent="#8aa6ff",
    bar="#6f97e0",
    up="#8aa6ff",
    down="#e8955f",
    activation="240,140,60",
    levels=("#d2dfff", "#a0bcff", "#6f97e0", "#4b73bd", "#3f63a8"),
)
# Okabe and Ito's palette without its black and yellow, which fail 3:1 on one of the two backgrounds.
CATEGORIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")


def template(theme: Theme) -> go.layout.Template:
    """Plotly template: no frames, hairline grid, axes that say their unit in muted ink."""
    axis = {
        "gridcolor": theme.line,
        "linecolor": theme.line,
        "zeroline": False,
        "ticks": "",
        "automargin": True,
        "tickfont": {"color": theme.muted, "size": 11},
        "title": {"font": {"color": theme.muted, "size": 12}, "standoff": 8},
    }
    return go.layout.Template(
        layout={
            "font": {"family": FONT, "size": 12, "color": theme.ink},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "colorway": [theme.accent, *CATEGORIES],
            "margin": {"l": 56, "r": 20, "t": 8, "b": 44},
            "xaxis": axis | {"showgrid": False, "showline": True},
            "yaxis": axis,
            "bargap": 0.06,
            "showlegend": False,
            "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"color": theme.muted}},
            "hoverlabel": {
                "bgcolor": theme.panel,
                "bordercolor": theme.line,
                "font": {"family": FONT, "size": 12, "color": theme.ink},
            },
            # Buttons as quiet as the axes; what a drag and a double click do needs none.
            "modebar": {
                "bgcolor": "rgba(0,0,0,0)",
                "color": theme.muted,
                "activecolor": theme.accent,
                "remove": ["select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d"],
            },
            "annotationdefaults": {"font": {"color": theme.muted, "size": 11}, "showarrow": False},
        }
    )


def level_colours(n: int, theme: Theme) -> list[str]:
    """Blues for n nested levels, general first; evenly picked from the five, ends repeated beyond."""
    if n == 1:
        return [theme.bar]
    steps = [round(index * (len(theme.levels) - 1) / (n - 1)) for index in range(n)]
    return [theme.levels[step] for step in steps]


def end_labels(
    figure: go.Figure, labels: Sequence[str], heights: Sequence[float], theme: Theme, *, yref: str = "paper"
) -> go.Figure:
    """Write each series' name at the right end of its line, pushed apart where lines end together.

    Units: heights as shares of the plot's height, 0 at the bottom.
    """
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    for index, height in zip(order, _spread(sorted(heights)), strict=True):
        figure.add_annotation(
            x=1, xref="paper", xanchor="left", xshift=6, y=height, yref=yref, yanchor="middle",
            text=labels[index], font={"color": theme.muted, "size": 11}, showarrow=False,
        )  # fmt: skip
    return figure


def _spread(ascending: Sequence[float]) -> list[float]:
    placed: list[float] = []
    for height in ascending:
        placed.append(max(height, placed[-1] + LABEL_GAP) if placed else height)
    overflow = max(0.0, placed[-1] - 1.0) if placed else 0.0
    return [height - overflow for height in placed]
