"""The decoder's map as a figure: a point per feature that fires, coloured by level."""

import numpy as np
import plotly.graph_objects as go

from dashboards.decoder_layout import DecoderLayout
from dashboards.theme import LIGHT, Theme, level_colours, template
from interp.errors import ShapeError
from saes.feature_statistics import FeatureStatistics


def map_figure(layout: DecoderLayout, statistics: FeatureStatistics, theme: Theme = LIGHT) -> go.Figure:
    """Places of the decoder's directions; how many neighbourhoods they keep is said below.

    Raises: ShapeError if the layout is of another dictionary.
    """
    if len(layout.x) != statistics.d_sae:
        raise ShapeError(f"got a layout of {len(layout.x)} features; expected {statistics.d_sae}; lay them out again")
    names = sorted(set(statistics.level.tolist()))
    figure = go.Figure(layout={"template": template(theme), "showlegend": len(names) > 1})
    for name, colour in zip(names, level_colours(len(names), theme), strict=True):
        shown = np.flatnonzero(np.isfinite(layout.x) & (statistics.level == name))
        figure.add_trace(_points(layout, statistics, shown, f"level {name}" if len(names) > 1 else "features", colour))
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False, scaleanchor="x")
    note = f"t-SNE of cosine distance keeps {layout.kept:.1%} of ten nearest (chance {layout.kept_by_chance:.1%})"
    return figure.add_annotation(
        text=note, x=0, y=0, xref="paper", yref="paper", xanchor="left", yanchor="top", yshift=-4, showarrow=False,
        font={"color": theme.muted, "size": 11},
    )  # fmt: skip


def _points(layout: DecoderLayout, s: FeatureStatistics, shown: np.ndarray, name: str, colour: str) -> go.Scattergl:
    # Area by order of magnitude of the density, as on the page.
    size = 3 + 1.5 * np.maximum(0, 4.5 + np.log10(np.maximum(s.density[shown], 1e-6)))
    return go.Scattergl(
        x=layout.x[shown], y=layout.y[shown], mode="markers", name=name,
        marker={"color": colour, "size": size, "line": {"width": 0}},
        customdata=np.stack([shown, s.density[shown]], axis=1),
        hovertemplate="feature %{customdata[0]}, density %{customdata[1]:.3%}<extra></extra>",
    )  # fmt: skip
