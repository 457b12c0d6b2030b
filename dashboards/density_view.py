"""How often features fire: densities -> histogram on a log axis, the dead ones told apart.

Axes: f features.
"""

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, Int

from dashboards.theme import LIGHT, Theme, level_colours, template

N_BINS = 30
FEWEST_PER_DECADE, MOST_PER_DECADE = 6, 20
DENSE_ABOVE = 0.1


def density_figure(
    density: Float[np.ndarray, " f"], level: Int[np.ndarray, " f"] | None = None, theme: Theme = LIGHT
) -> go.Figure:
    """Histogram of log density, stacked by Matryoshka level where there are several.

    Units: density is the share of tokens on which a feature fires.
    """
    alive = density > 0
    levels = np.ones(len(density), dtype=np.int64) if level is None else np.asarray(level)
    names = sorted(set(levels.tolist())) or [1]
    edges = _log_edges(density[alive])
    centres = np.sqrt(edges[:-1] * edges[1:])
    figure = go.Figure(layout={"template": template(theme), "barmode": "stack", "bargap": 0.04})
    for name, colour in zip(names, level_colours(len(names), theme), strict=True):
        counts = np.histogram(density[alive & (levels == name)], bins=edges)[0]
        figure.add_trace(_bars(centres, edges, counts, f"level {name}" if len(names) > 1 else "features", colour))
    ticks = 1 if edges[-1] / edges[0] > 1000 else "D2"
    figure.update_xaxes(type="log", title_text="share of tokens (log)", tickformat="~%", dtick=ticks)
    figure.update_yaxes(title_text="features")
    # These labels fit their margins; measuring them anew would draw the figure twice.
    figure.update_xaxes(automargin=False).update_yaxes(automargin=False)
    figure.update_layout(showlegend=len(names) > 1, legend_traceorder="normal", margin_t=26)
    return _mark_extremes(figure, density, edges, theme)


def _bars(centres: np.ndarray, edges: np.ndarray, counts: np.ndarray, name: str, colour: str) -> go.Bar:
    return go.Bar(
        x=centres, y=counts, width=np.diff(edges) * 0.94, name=name, marker={"color": colour, "line": {"width": 0}},
        customdata=np.stack([edges[:-1], edges[1:]], axis=1),
        hovertemplate=f"{name}: %{{y:,}} with %{{customdata[0]:.3%}} to %{{customdata[1]:.3%}}<extra></extra>",
    )  # fmt: skip


def _log_edges(positive: np.ndarray) -> np.ndarray:
    """About thirty bins over the decades that densities span."""
    if positive.size == 0:
        return np.array([1e-6, 1.0])
    decades = max(float(np.log10(positive.max() / positive.min())), 0.1)
    per_decade = int(np.clip(N_BINS / decades, FEWEST_PER_DECADE, MOST_PER_DECADE))
    low = np.floor(np.log10(positive.min()) * per_decade)
    high = np.ceil(np.log10(positive.max()) * per_decade)
    edges = 10.0 ** (np.arange(low, max(high, low + 1) + 1) / per_decade)
    # Rounding in the powers must not push the extreme values out of the range.
    edges[0], edges[-1] = min(edges[0], positive.min()), max(edges[-1], positive.max())
    return np.asarray(edges)


def _mark_extremes(figure: go.Figure, density: np.ndarray, edges: np.ndarray, theme: Theme) -> go.Figure:
    n_dead, n_dense = int((density == 0).sum()), int((density > DENSE_ABOVE).sum())
    notes = [f"{n_dead:,} never fire ({n_dead / max(len(density), 1):.1%})"]
    if edges[-1] > DENSE_ABOVE:
        figure.add_vline(x=DENSE_ABOVE, line={"color": theme.down, "width": 1, "dash": "dot"})
    notes.append(f"{n_dense:,} on more than {DENSE_ABOVE:.0%} of tokens")
    return figure.add_annotation(
        text="<br>".join(notes), x=1, y=1, xref="paper", yref="paper", xanchor="right", yanchor="top", align="right",
        bgcolor=theme.background, showarrow=False, font={"color": theme.muted, "size": 11},
    )  # fmt: skip
