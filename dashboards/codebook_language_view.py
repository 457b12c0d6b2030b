"""Codebooks in a language model: loss with and without, codes beside neurons, steering beside random codes; a page."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import plotly.graph_objects as go

from dashboards.analysis_page import AnalysisPage, EvidencePart, FigurePart, Part, TablePart, render_analysis
from dashboards.codebook_page import DRAWN_COLUMNS, code_evidence, drawn_rows
from dashboards.theme import CATEGORIES, LIGHT, Theme, template
from interp.codebooks.inspected import Inspection
from interp.codebooks.language_results import (
    COLUMNS,
    COST_COLUMNS,
    PLAIN,
    STEERED_COLUMNS,
    CodebookLanguage,
    CodeSample,
    LanguageArm,
    cost_row,
    spanned,
)

_LABEL = 168


def loss_figure(study: CodebookLanguage, theme: Theme = LIGHT) -> go.Figure:
    """Held-out loss of every model; a dot for each seed, whiskers over documents."""
    names = list(dict.fromkeys(arm.name for arm in study.arms))
    figure = go.Figure()
    for row, name in enumerate(names):
        arms = [arm for arm in study.arms if arm.name == name]
        spread = np.linspace(-0.16, 0.16, len(arms)) if len(arms) > 1 else np.zeros(1)
        colour = theme.accent if arms[0].dead_heldout is not None else CATEGORIES[1] if name == PLAIN else theme.muted
        figure.add_scatter(
            x=[arm.scores.loss_nats for arm in arms], y=(row + spread).tolist(), mode="markers", name=name,
            marker={"color": colour, "size": 10}, error_x=_whiskers(arms) | {"color": colour},
            customdata=[[arm.name, 100 * arm.scores.accuracy, arm.seed] for arm in arms],
            hovertemplate="%{customdata[0]}, seed %{customdata[2]}: %{x:.4f} nats, accuracy %{customdata[1]:.2f}%"
            "<extra></extra>",
        )  # fmt: skip
    figure.update_layout(template=template(theme), margin={"l": _LABEL})
    figure.update_xaxes(title_text="held-out loss, nats a token", showgrid=True)
    return figure.update_yaxes(
        tickvals=list(range(len(names))), ticktext=names, range=[len(names) - 0.5, -0.5], showgrid=False
    )


def _whiskers(arms: Sequence[LanguageArm]) -> dict[str, object]:
    found = [arm.scores for arm in arms]
    spans = [one.loss_interval or (one.loss_nats, one.loss_nats) for one in found]
    up = [high - one.loss_nats for one, (_, high) in zip(found, spans, strict=True)]
    down = [one.loss_nats - low for one, (low, _) in zip(found, spans, strict=True)]
    return {"array": up, "arrayminus": down, "width": 4, "thickness": 1.5}


def detection_figure(study: CodebookLanguage, theme: Theme = LIGHT) -> go.Figure:
    """Detection AUC of every drawn code and neuron, a dot each; the bar is the median, the band its interval."""
    figure = go.Figure()
    ticks: list[str] = []
    for sample in study.samples:
        for kind, units, colour in (
            ("codes", sample.codes, theme.accent),
            ("neurons", sample.neurons, CATEGORIES[1]),
        ):
            row = len(ticks)
            ticks.append(f"{kind}, {sample.arm}")
            held = [one for one in units if one.auc == one.auc]
            spread = np.random.default_rng(0).uniform(-0.2, 0.2, len(held))
            middle, between = sample.median(kind)
            if between is not None:
                figure.add_shape(
                    type="rect", x0=between[0], x1=between[1], y0=row - 0.34, y1=row + 0.34, line_width=0,
                    fillcolor=colour, opacity=0.16, layer="below",
                )  # fmt: skip
            figure.add_scatter(
                x=[one.auc for one in held], y=(row + spread).tolist(), mode="markers", name=ticks[-1],
                marker={"color": colour, "size": 7, "opacity": 0.65},
                customdata=[[one.unit, one.share] for one in held],
                hovertemplate="%{customdata[0]}: AUC %{x:.3f}, fires on %{customdata[1]:.3%}<extra></extra>",
            )  # fmt: skip
            figure.add_scatter(
                x=[middle, middle], y=[row - 0.34, row + 0.34], mode="lines", line={"color": colour, "width": 3},
                hovertemplate=f"{ticks[-1]}: median {middle:.3f}<extra></extra>",
            )  # fmt: skip
    figure.add_vline(x=0.5, line={"color": theme.muted, "width": 1, "dash": "dot"})
    figure.update_layout(template=template(theme), margin={"l": _LABEL})
    figure.update_xaxes(title_text="detection AUC on documents of which nothing was shown", range=[0.3, 1.02])
    return figure.update_yaxes(
        tickvals=list(range(len(ticks))), ticktext=ticks, range=[len(ticks) - 0.5, -0.5], showgrid=False
    )


def steering_figure(study: CodebookLanguage, theme: Theme = LIGHT) -> go.Figure:
    """Share of texts with the word: every code of it, none, and random codes as frequent as dots."""
    figure, found = go.Figure(), study.steerings
    for row, one in enumerate(found):
        held = one.steering
        spread = np.random.default_rng(row).uniform(-0.24, 0.24, len(held.controls))
        figure.add_scatter(
            x=[100 * x.success for x in held.controls], y=(row + spread).tolist(), mode="markers", name="random codes",
            marker={"color": theme.muted, "size": 5, "opacity": 0.45}, showlegend=row == 0,
            customdata=[x.perplexity for x in held.controls],
            hovertemplate="random codes: %{x:.0f}%, perplexity %{customdata:.1f}<extra></extra>",
        )  # fmt: skip
        for name, outcome, colour, p in (
            ("no intervention", held.unsteered, CATEGORIES[1], ""),
            ("all codes of the word", held.steered, theme.accent, f", p {held.p:.3f}"),
        ):
            figure.add_scatter(
                x=[100 * outcome.success], y=[row], mode="markers", name=name, showlegend=row == 0,
                marker={"color": colour, "size": 12},
                hovertemplate=f"{name}: %{{x:.0f}}%, perplexity {outcome.perplexity:.1f}{p}<extra></extra>",
            )  # fmt: skip
    figure.update_layout(template=template(theme), showlegend=True, margin={"l": 84, "t": 40})
    shares = [
        x.success for one in found for x in (*one.steering.controls, one.steering.unsteered, one.steering.steered)
    ]
    most = max(10.0, 110 * max(shares, default=0.0))
    figure.update_xaxes(title_text="texts with the word, %", range=[-0.03 * most, most], showgrid=True)
    ticks = [one.concept for one in found]
    return figure.update_yaxes(
        tickvals=list(range(len(ticks))), ticktext=ticks, range=[len(ticks) - 0.5, -0.5], showgrid=False
    )


def codebook_language_page(study: CodebookLanguage, inspected: Mapping[str, Inspection]) -> str:
    """Figures, tables and all drawn codes in context, as one HTML file; `inspected` by the arms' names."""
    plain = next(arm for arm in study.arms if arm.name == PLAIN)
    coded = [arm for arm in study.arms if arm.dead_heldout is not None]
    n_names = len(dict.fromkeys(arm.name for arm in study.arms))
    parts: list[Part] = [
        FigurePart("loss", "Held-out loss", _LOSS, partial(loss_figure, study), 76 + 40 * n_names),
        TablePart("arms", "The same in figures", _ARMS, COLUMNS, study.rows()),
        *_steered_parts(study),
        FigurePart("detection", "Codes drawn by seed, beside neurons", _DETECTION, partial(detection_figure, study),
                   72 + 100 * len(study.samples)),
        TablePart("medians", "Detection AUC", "Medians; intervals draw the units again.", _MEDIANS,
                  [_median_row(one) for one in study.samples]),
    ]  # fmt: skip
    for name, inspection in inspected.items():
        parts += _drawn_parts(name, inspection)
    page = AnalysisPage(
        name="Codebooks in a language model",
        about=f"{Path(study.model).name} · {Path(study.dataset).name} · size {study.size}",
        lead=(
            "The model was finetuned with a codebook at every attention head, k codes of it active at a time, and "
            "without, on the same text for as many steps. Everything here is measured on held-out documents."
        ),
        headline=[
            ("loss without", f"{plain.scores.loss_nats:.3f}"),
            *((name, f"{np.mean([a.scores.loss_nats for a in coded if a.name == name]):.3f}")
              for name in dict.fromkeys(arm.name for arm in coded)),
            *((f"“{one.concept}” steered, p", f"{one.steering.p:.3f}") for one in study.steerings[:1]),
        ],
        parts=parts,
        command=str(study.provenance.get("command", "")),
        provenance=[(key, str(value)) for key, value in study.provenance.items() if key != "command"],
    )  # fmt: skip
    return render_analysis(page)


_LOSS = "A dot for each seed; whiskers: 95% over documents."
_ARMS = (
    "Loss above plain: paired document by document. Dead: codes without a hit on the held-out text looked at, and in "
    "training. Published: TinyStories-1Layer-21M, another model and another tokenizer."
)
_DETECTION = (
    "A detector scores a token by the share of its occurrences, in 24 windows drawn from even documents around tokens "
    "at which the unit fires, at which it fires there; it is judged on all tokens of odd documents. Neurons are those "
    "of the finetune without codebooks, drawn by seed, each cut where it fires as often as one of the codes."
)
_STEERING = (
    "Codes of a word are active directly before it: by the lower bound of their precision on even documents at least "
    "four times as often as the word comes; the surest 64 from all heads. All are active at every token. Random codes "
    "are of the same codebooks, one for each, among those nearest in frequency."
)
_STEERED = (
    "Precision: mean over the codes, on the half of the documents where they were chosen, and elsewhere. p: share of "
    "random codes with at least as many successes, these codes counted in. The last column: how often random codes are "
    "active, of how often these are, all of a set counted; the median over sets."
)
_COST = (
    "Perplexity of what was written, by the model without intervention. JSD to the word: of next-token distributions "
    "on neutral text from the model's own directly before the word; 1 is no intervention."
)
_MEDIANS = ("", "codes", "neurons", "difference")


def _median_row(one: CodeSample) -> tuple[str, ...]:
    figures = (one.median("codes"), one.median("neurons"), one.difference())
    return (one.arm, *(spanned(*found, 3) for found in figures))


def _steered_parts(study: CodebookLanguage) -> list[Part]:
    if not (rows := study.steered_rows()):
        return []
    table = TablePart("steered", "Words that were steered towards", _STEERED, STEERED_COLUMNS, rows)
    if not (found := study.steerings):
        return [table]
    first, draw = found[0].steering, partial(steering_figure, study)
    texts = [
        (one.concept, name, text)
        for one in found
        for name, held in (("all codes", one.steering.texts), ("none", one.steering.unsteered_texts))
        for text in held[:3]
    ]
    behind = f"{first.n_texts} behind “{first.prompt}” each time; the first three of each."
    return [
        FigurePart("steering", "Every code of a word, active while the model writes", _STEERING, draw,
                   100 + 56 * len(found)),
        replace(table, title="The same in figures"),
        TablePart("cost", "What it costs, and how near it comes", _COST, COST_COLUMNS,
                  [cost_row(one) for one in found]),
        TablePart("texts", "Texts", behind, ("word", "codes", "goes on with"), texts, text=(0, 1, 2)),
    ]  # fmt: skip


def _drawn_parts(name: str, inspection: Inspection) -> list[Part]:
    by_name = {code.name: code for code in inspection.codes}
    drawn = [by_name[one.unit] for one in inspection.code_detection]
    prefix = "".join(c for c in name if c.isalnum())
    evidence = [code_evidence(inspection, code, prefix=prefix) for code in drawn]
    return [
        TablePart(f"drawn-{prefix}", f"The drawn codes, {name}", "All, in the order of the draw; a code leads to its "
                  "contexts.", DRAWN_COLUMNS, drawn_rows(inspection), text=(0, 3, 4, 5),
                  leads=[str(one["id"]) for one in evidence]),
        EvidencePart(f"contexts-{prefix}", f"The drawn codes in context, {name}",
                     "Tokens at which the code is active are marked; contexts are drawn by seed.", evidence),
    ]  # fmt: skip
