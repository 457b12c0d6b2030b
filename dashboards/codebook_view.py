"""Codebooks: which code fires where on a prompt, what codes are about, how they follow each other, how they steer."""

import html
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import plotly.graph_objects as go

from dashboards.analysis_page import AnalysisPage, EvidencePart, FigurePart, Part, TablePart, render_analysis
from dashboards.theme import CATEGORIES, LIGHT, Theme, template
from interp.codebooks.inspected import Inspection
from interp.codebooks.inspection import CodeContext, CodeFacts, Counted, transition_matrix
from interp.codebooks.prompt_grid import PromptGrid
from interp.codebooks.record import CodeRecord
from interp.codebooks.steering import COLUMNS, CodeSteering

CELL = 46
N_TRANSITIONS = 24
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
            x=[one.auc for one in held], y=row + spread, mode="markers", name=name,
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
    figure.update_xaxes(title_text="perplexity of the texts by the unsteered model (log)", type="log", dtick="D2")
    return figure.update_yaxes(title_text="share of texts that match", range=[-0.03, 1.03])


def codebook_page(result: Inspection, grid: PromptGrid, record: CodeRecord) -> str:
    """What a run's codes are about, as one HTML file."""
    codes, neurons = (result.median_auc(found) for found in (result.code_detection, result.neuron_detection))
    n_books = len(result.books)
    dead = float(np.mean([book.dead_share for book in result.books])) if n_books else math.nan
    page = AnalysisPage(
        name=f"Codebooks: {result.run}",
        about=f"{result.model} · {n_books} codebooks · {result.provenance.get('codebooks at', '')}",
        lead=(
            f"At each token a few codes stand for each activation. Looked at on {result.n_tokens:,} tokens of held-out "
            "text. A code is named layer.site.group.code; the group is the head."
        ),
        headline=[
            ("codes never active", f"{dead:.1%}"),
            ("detection AUC, codes", f"{codes:.3f}"),
            ("neurons", f"{neurons:.3f}"),
        ],
        parts=[
            FigurePart("grid", "Codes on a prompt", _GRID, partial(grid_figure, grid), 110 + 24 * len(grid.books)),
            *_judged_parts(result),
            FigurePart("detection", "Codes drawn by seed, beside neurons", _DETECTION,
                       partial(detection_figure, result), 220),
            TablePart("drawn", "The drawn codes", "All, in the order of the draw; a code leads to its contexts.",
                      _DRAWN_COLUMNS, _drawn_rows(result), text=(0, 3, 4, 5),
                      leads=[f"code-{one.unit}" for one in result.code_detection]),
            FigurePart("books", "Use of the codebooks", _BOOKS, partial(books_figure, result), 300),
            TablePart("codes", "The commonest codes", "A code leads to its contexts.", _CODE_COLUMNS,
                      [_code_row(result, code) for code in _common(result)], text=(0, 4, 5, 6),
                      leads=[f"code-{code.name}" for code in _common(result)]),
            *_transition_parts(result, record),
            TablePart("together", "Codes at the same token", _TOGETHER, ("codes", "tokens", "lift"),
                      [(f"{pair.first} + {pair.second}", f"{pair.count:,}", f"{pair.lift:.1f}")
                       for pair in result.co_use]),
            EvidencePart("contexts", "Codes in context", _CONTEXTS, [_evidence(result, code) for code in result.codes]),
        ],
        command=str(result.provenance.get("command", "")),
        provenance=[(key, str(value)) for key, value in result.provenance.items() if key != "command"],
    )  # fmt: skip
    return render_analysis(page)


_GRID = (
    "The most similar code of each codebook at each token; hover for all active ones. The stronger the colour, the "
    "rarer the code on other text."
)
_DETECTION = (
    "A detector scores a token by the share of its occurrences, in 24 windows around firings in even documents, at "
    "which the unit fires; judged on odd documents. Neurons are cut where they fire as often as the codes."
)
_BOOKS = "Perplexity: as many equally common codes would have the same entropy."
_TOGETHER = "Pairs of neighbouring codebooks; lift is how many times as often as by chance."
_CONTEXTS = "Tokens at which the code is active are marked; contexts are drawn by seed from different documents."
_CODE_COLUMNS = ("code", "active on", "tokens", "entropy, bits", "on", "before (lift)", "raises")
_DRAWN_COLUMNS = ("code", "active on", "AUC", "on", "before (lift)", "raises")


def _judged_parts(result: Inspection) -> list[Part]:
    if not result.detected:
        return []
    rows = []
    for one in result.detected:
        code, neuron = one.code, one.neuron
        rows.append(
            (
                one.label,
                *((code.unit, f"{code.precision:.3f}", f"{code.recall:.3f}") if code else ("none", "–", "–")),
                *((neuron.unit, f"{neuron.precision:.3f}") if neuron else ("–", "–")),
                f"{code.n_positives:,}" if code else "–",
            )
        )
    columns = ("", "code", "precision", "recall", "neuron", "its precision", "tokens")
    note = "Chosen on even documents, judged on odd ones; the neuron is cut at the code's recall, either sign."
    return [TablePart("judged", "Best code and best neuron", note, columns, rows, text=(0, 1, 4))]


def _common(result: Inspection) -> list[CodeFacts]:
    return sorted(result.codes, key=lambda code: -code.count)[:40]


def _drawn_rows(result: Inspection) -> list[tuple[str, ...]]:
    by_name = {code.name: code for code in result.codes}
    rows: list[tuple[str, ...]] = []
    for one in result.code_detection:
        code = by_name[one.unit]
        auc = "too seldom" if math.isnan(one.auc) else f"{one.auc:.3f}"
        rows.append((one.unit, f"{one.share:.3%}", auc, *_words(result, code)))
    return rows


def _code_row(result: Inspection, code: CodeFacts) -> tuple[str, ...]:
    counts = (f"{code.share:.3%}", f"{code.count:,}", f"{code.token_entropy_bits:.2f}")
    return (code.name, *counts, *_words(result, code))


def _words(result: Inspection, code: CodeFacts) -> tuple[str, str, str]:
    def told(counted: Sequence[Counted], *, lift: bool) -> str:
        return "  ".join(
            f"{_plain(result, one.token_id)} {one.share:.0%}" + (f" ({one.lift:.1f}×)" if lift else "")
            for one in counted[:3]
        )

    raises = "  ".join(_plain(result, token) for token in code.raises[:4])
    return told(code.fires_on, lift=False), told(code.followed_by, lift=True), raises


def _plain(result: Inspection, token: int) -> str:
    return result.vocabulary.get(token, "").replace(" ", "␣").replace("\n", "↵")


def _transition_parts(result: Inspection, record: CodeRecord) -> list[Part]:
    """The codebook whose codes follow each other most predictably, as a figure."""
    if not record.books:
        return []
    weight = {name: sum(pair.count * min(pair.lift, 50) for pair in held) for name, held in result.transitions.items()}
    best = max(record.books, key=lambda book: weight[book.name])
    codes = np.argsort(-best.counts(), kind="stable")[:N_TRANSITIONS].tolist()
    names = [str(best.code(code)) for code in codes]
    matrix = transition_matrix(record, best, codes)
    rows = [
        (f"{pair.first} → {pair.second}", f"{pair.count:,}", f"{pair.lift:.1f}")
        for pair in result.transitions[best.name]
    ]
    note = f"The {len(codes)} commonest codes of {best.name}: how often a code of the next token follows."
    return [
        FigurePart("transitions", "From a token to the next", note,
                   partial(transition_figure, matrix, names, book=best.name), 460),
        TablePart("changes", f"Commonest changes in {best.name}", "", ("codes", "times", "lift"), rows),
    ]  # fmt: skip


def _evidence(result: Inspection, code: CodeFacts) -> dict[str, Any]:
    fires = ", ".join(_plain(result, one.token_id) for one in code.fires_on[:3])
    return {
        "id": f"code-{code.name}",
        "title": code.name,
        "note": f"active on {code.share:.3%}: {fires}",
        "contexts": [_context(context, result.vocabulary) for context in code.contexts],
    }


def _context(context: CodeContext, vocabulary: Mapping[int, str]) -> dict[str, Any]:
    return {
        "side": "text",
        "value": 1.0,
        "document": context.document,
        "position": context.position,
        "peak": context.peak,
        "tokens": [[token, vocabulary.get(token, "")] for token in context.token_ids],
        "acts": [float(active) for active in context.active],
        "strongest": 1.0,
    }


def code_steering_page(result: CodeSteering) -> str:
    """Steering by codes as one HTML file."""
    texts = [("steered", text) for text in result.texts] + [("unsteered", text) for text in result.unsteered_texts]
    page = AnalysisPage(
        name=f"Steering by {', '.join(result.codes)}",
        about=f"{result.provenance.get('base model', '')} · at {result.where} tokens",
        lead=(
            f"{result.n_texts} texts were written behind {result.prompt!r}, sampled at temperature 1, with the codes "
            f"active; a success matches {result.pattern!r}. Random codes come from the same codebooks and are about as "
            "frequent."
        ),
        headline=[
            ("success", f"{result.steered.success:.0%}"),
            ("unsteered", f"{result.unsteered.success:.0%}"),
            ("p", f"{result.p:.3f}"),
        ],
        parts=[
            FigurePart("trade-off", "Success and its cost", _TRADE, partial(steering_figure, result), 380),
            TablePart("figures", "With and without", _SHIFT, COLUMNS, result.rows()),
            TablePart("texts", "Texts", f"Behind {result.prompt!r}.", ("", "goes on with"), texts, text=(0, 1)),
        ],
        command=str(result.provenance.get("command", "")),
        provenance=[(key, str(value)) for key, value in result.provenance.items() if key != "command"],
    )
    return render_analysis(page)


_TRADE = "Perplexity is what the model without steering gives to the texts that were written."
_SHIFT = (
    "Shift: Jensen-Shannon divergence of the next-token distributions on held-out text with the codes active at every "
    "token, from those without. p: share of random codes with at least as many successes, these counted in."
)
