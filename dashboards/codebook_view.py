"""Codebooks as figures: which code fires where on a prompt, use, detection, changes from token to token, steering."""

import html
import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from dashboards.theme import CATEGORIES, LIGHT, Theme, template
from interp.codebooks.inspected import Inspection
from interp.codebooks.measured import UNMEASURED
from interp.codebooks.prompt_grid import PromptGrid
from interp.codebooks.steered import CodeSteering

CELL = 46
_RAREST = 6.0


def grid_figure(grid: PromptGrid, theme: Theme = LIGHT) -> go.Figure:
    """The most similar code of each codebook (row) at each token (column); all active ones on hover.

    The rarer a code on other text, the stronger its colour.
    """
    n_books, n_tokens, _ = grid.ids.shape
    bits = np.clip(-np.log2(np.maximum(grid.share[:, :, 0], 2.0**-_RAREST * 1e-3)), 0, None)
    hover = [[_hover(grid, book, at) for at in range(n_tokens)] for book in range(n_books)]
    heat = go.Heatmap(
        z=np.where(np.isnan(bits), 0, bits).tolist(), text=grid.ids[:, :, 0].astype(str).tolist(), customdata=hover,
        texttemplate="%{text}", hovertemplate="%{customdata}<extra></extra>", xgap=2, ygap=2, zmin=0,
        textfont={"size": 10, "color": theme.ink},
        colorscale=[[0, f"rgba({theme.activation},0.02)"], [1, f"rgba({theme.activation},0.75)"]],
        colorbar={
            "title": {"text": "rarity,<br>bits", "font": {"size": 11, "color": theme.muted}}, "thickness": 8,
            "outlinewidth": 0, "tickfont": {"color": theme.muted, "size": 11}, "len": 0.9,
        },
    )  # fmt: skip
    figure = go.Figure(heat).update_layout(template=template(theme), margin={"l": 84, "r": 12, "t": 8, "b": 76})
    figure.update_layout(hoverlabel_align="left", hoverlabel_namelength=-1)
    # Positions, not token strings: repeated tokens must not merge.
    ticks = [_seen(token) for token in grid.tokens]
    figure.update_xaxes(tickvals=list(range(n_tokens)), ticktext=ticks, tickangle=-45, showline=False)
    return figure.update_yaxes(
        tickvals=list(range(n_books)), ticktext=list(grid.books), autorange="reversed", showgrid=False
    )


def _hover(grid: PromptGrid, book: int, at: int) -> str:
    lines = [f"{grid.books[book]}, token {_seen(grid.tokens[at])} (position {at})"]
    for code, share in zip(grid.ids[book, at], grid.share[book, at], strict=True):
        if code >= 0:
            told = "" if np.isnan(share) else f"  active on {share:.3%} of tokens"
            lines.append(f"{grid.books[book]}.{code}{told}")
    return "<br>".join(lines)


def _seen(text: str, longest: int = 12) -> str:
    """A token that is no markup to Plotly; spaces and newlines can be seen."""
    seen = text.replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥")
    return html.escape(seen if len(seen) <= longest else f"{seen[: longest - 1]}…", quote=False)


def books_figure(result: Inspection, theme: Theme = LIGHT) -> go.Figure:
    """How many codes of each codebook are in use, and as how many equally common ones they count."""
    names = [book.name for book in result.books]
    figure = go.Figure()
    series = (
        ("active codes", [book.n_active for book in result.books], theme.bar),
        ("perplexity of use", [book.perplexity for book in result.books], theme.accent),
    )
    for name, values, colour in series:
        figure.add_bar(
            x=list(range(len(names))), y=values, name=name, marker_color=colour,
            hovertemplate=f"%{{customdata}}, {name}: %{{y:,.0f}}<extra></extra>", customdata=names,
        )  # fmt: skip
    figure.update_layout(template=template(theme), showlegend=True, barmode="group", margin={"t": 36, "b": 56})
    figure.update_xaxes(tickvals=list(range(len(names))), ticktext=names, tickangle=-45, title_text="codebook")
    most = max((book.n_codes for book in result.books), default=1)
    return figure.update_yaxes(title_text=f"codes (of {most:,})")


def detection_figure(result: Inspection, theme: Theme = LIGHT) -> go.Figure:
    """Detection AUC of the drawn codes and neurons, a dot each, with the medians."""
    figure = go.Figure()
    rows = (("codes", result.code_detection, theme.accent), ("neurons", result.neuron_detection, CATEGORIES[1]))
    for row, (name, found, colour) in enumerate(rows):
        held = [one for one in found if not math.isnan(one.auc)]
        spread = np.random.default_rng(0).uniform(-0.18, 0.18, len(held))
        figure.add_scatter(
            x=[one.auc for one in held], y=(row + spread).tolist(), mode="markers", name=name,
            marker={"color": colour, "size": 7, "opacity": 0.65},
            customdata=[[one.unit, one.share] for one in held],
            hovertemplate="%{customdata[0]}: AUC %{x:.3f}, fires on %{customdata[1]:.3%}<extra></extra>",
        )  # fmt: skip
        if held:
            middle = float(np.median([one.auc for one in held]))
            figure.add_scatter(
                x=[middle, middle], y=[row - 0.3, row + 0.3], mode="lines", line={"color": colour, "width": 3},
                hovertemplate=f"{name}: median {middle:.3f}<extra></extra>",
            )  # fmt: skip
        else:
            figure.add_annotation(x=0.5, y=row, text=UNMEASURED, showarrow=False, font={"color": theme.muted})
    figure.add_vline(x=0.5, line={"color": theme.muted, "width": 1, "dash": "dot"})
    figure.update_layout(template=template(theme), margin={"l": 72})
    figure.update_xaxes(title_text="detection AUC on documents of which nothing was shown", range=[0.3, 1.02])
    return figure.update_yaxes(tickvals=[0, 1], ticktext=[row[0] for row in rows], autorange="reversed", showgrid=False)


def transition_figure(matrix: np.ndarray, names: Sequence[str], theme: Theme = LIGHT, *, book: str = "") -> go.Figure:
    """From a code (row) to a code of the next token (column): how often the second follows the first."""
    heat = go.Heatmap(
        z=matrix, zmin=0, xgap=1, ygap=1, x=list(range(len(names))), y=list(range(len(names))),
        customdata=[[f"{a} → {b}" for b in names] for a in names],
        hovertemplate="%{customdata}: %{z:.1%}<extra></extra>",
        colorscale=[[0, f"rgba({theme.activation},0.02)"], [1, f"rgba({theme.activation},0.9)"]],
        colorbar={"thickness": 8, "outlinewidth": 0, "tickformat": ".0%", "tickfont": {"color": theme.muted}},
    )  # fmt: skip
    figure = go.Figure(heat).update_layout(template=template(theme), margin={"l": 64, "b": 64, "r": 12})
    short = [name.rsplit(".", 1)[1] for name in names]
    figure.update_xaxes(tickvals=list(range(len(names))), ticktext=short, tickangle=-45, title_text=f"next, {book}")
    return figure.update_yaxes(
        tickvals=list(range(len(names))), ticktext=short, autorange="reversed", title_text="code", showgrid=False
    )


def steering_figure(result: CodeSteering, theme: Theme = LIGHT) -> go.Figure:
    """Success against perplexity: the codes, the model as it is, and random codes as frequent."""
    figure = go.Figure()
    figure.add_scatter(
        x=[one.perplexity for one in result.controls], y=[one.success for one in result.controls], mode="markers",
        name=f"{len(result.controls)} random codes", marker={"color": theme.muted, "size": 6, "opacity": 0.6},
        hovertemplate="random codes: success %{y:.3f}, perplexity %{x:.2f}<extra></extra>",
    )  # fmt: skip
    for name, one, colour in (
        ("unsteered", result.unsteered, CATEGORIES[1]),
        ("these codes", result.steered, theme.accent),
    ):
        figure.add_scatter(
            x=[one.perplexity], y=[one.success], mode="markers", name=name, marker={"color": colour, "size": 12},
            hovertemplate=f"{name}: success %{{y:.3f}}, perplexity %{{x:.2f}}<extra></extra>",
        )  # fmt: skip
    figure.update_layout(template=template(theme), showlegend=True, margin={"t": 40})
    figure.update_xaxes(title_text="perplexity of the texts by the unsteered model")
    return figure.update_yaxes(title_text="share of texts that match", range=[-0.03, 1.03])
