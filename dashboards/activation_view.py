"""How strongly one feature fires: its histogram, zeros told apart."""

import numpy as np
import plotly.graph_objects as go

from dashboards.theme import LIGHT, Theme, template
from interp.errors import ShapeError
from saes.features import FeatureStatistics


def activation_figure(statistics: FeatureStatistics, feature: int, theme: Theme = LIGHT) -> go.Figure:
    """Log count of firing values in log-spaced bins.

    Raises: ShapeError if there is no such feature.
    """
    if not 0 <= feature < statistics.d_sae:
        raise ShapeError(f"got feature {feature}; expected 0 to {statistics.d_sae - 1}; give one of these")
    counts = np.asarray(statistics.histogram[feature])
    edges = np.asarray(statistics.bin_edges)
    used = np.flatnonzero(counts)
    span = slice(used[0], used[-1] + 1) if used.size else slice(0, 0)
    low, high = edges[:-1][span], edges[1:][span]
    bars = go.Bar(
        x=np.sqrt(np.maximum(low, 1e-12) * high), y=counts[span], width=(high - low) * 0.94,
        marker={"color": theme.bar, "line": {"width": 0}}, customdata=np.stack([low, high], axis=1),
        hovertemplate="%{y:,} tokens<br>%{customdata[0]:.3g} to %{customdata[1]:.3g}<extra></extra>",
    )  # fmt: skip
    figure = go.Figure(bars, layout={"template": template(theme)})
    figure.update_xaxes(type="log", title_text="activation (log)")
    figure.update_yaxes(type="log", title_text="tokens (log)")
    zeros = 1.0 - float(statistics.density[feature])
    return figure.add_annotation(
        text=f"zero on {zeros:.2%} of tokens", x=1, y=1, xref="paper", yref="paper", xanchor="right", yanchor="top",
        showarrow=False, font={"color": theme.muted, "size": 11},
    )  # fmt: skip
