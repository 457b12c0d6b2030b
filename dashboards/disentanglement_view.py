"""Disentanglement as figures: metrics by arm, which code tells of which factor, spectra."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float
from numpy import ndarray
from plotly.subplots import make_subplots

from dashboards.analysis_page import AnalysisPage, FigurePart, Part, TablePart, render_analysis
from dashboards.theme import CATEGORIES, LIGHT, Theme, template
from probes.disentanglement import COMMONEST, GEOMETRY, METRICS, RANK_CENTRED, VNE_CENTRED, Disentanglement
from probes.disentanglement_report import DisentanglementReport, score_text

NULL_MARK = "shuffled"
CODES_PER_FACTOR = 8
# Plotly draws a null as a cap of no height, and what is no number not at all.
_NO_WHISKER = "none"
_SHORT = {
    "DCI disentanglement": "DCI<br>disentangl.",
    "DCI completeness": "DCI<br>complete.",
    "DCI informativeness": "DCI<br>inform.",
}


def metrics_figure(report: DisentanglementReport, theme: Theme = LIGHT) -> go.Figure:
    """Every metric by arm, 1 best; whiskers are 95% intervals, a missing bar is not defined."""
    figure = go.Figure()
    for arm, colour in zip(report.arms, _colours(report.arms, theme), strict=True):
        scores = [arm.scores[metric] for metric in METRICS]
        values = [score.value if score.defined else None for score in scores]
        between = [score.interval for score in scores]
        above = [b[1] - s.value if b else _NO_WHISKER for s, b in zip(scores, between, strict=True)]
        below = [s.value - b[0] if b else _NO_WHISKER for s, b in zip(scores, between, strict=True)]
        figure.add_bar(
            x=[_SHORT.get(metric, metric) for metric in METRICS], y=values, name=arm.name, marker={"color": colour},
            error_y={"array": above, "arrayminus": below, "thickness": 1, "width": 2, "color": theme.ink},
            customdata=[score_text(score) for score in scores],
            hovertemplate=f"{arm.name}, %{{x}}: %{{customdata}}<extra></extra>",
        )  # fmt: skip
    # What is below zero is worse than the base rate; how much worse would only press the rest together.
    figure.update_yaxes(title_text="score, 1 best", range=[-0.1, 1.05], tickvals=[0, 0.25, 0.5, 0.75, 1])
    figure.update_layout(template=template(theme), barmode="group", bargap=0.25, showlegend=True)
    return figure.update_layout(margin={"l": 56, "r": 20, "t": 40, "b": 48})


def single_figure(found: Disentanglement, theme: Theme = LIGHT) -> go.Figure:
    """Every metric of one set of codes, as of a report with one arm."""
    return metrics_figure(DisentanglementReport(found.name, (found,), {}), theme)


def information_figure(report: DisentanglementReport, theme: Theme = LIGHT) -> go.Figure:
    """Share of each factor's entropy that single codes hold: the best codes of every factor, a panel for each arm."""
    arms = [arm for arm in report.arms if NULL_MARK not in arm.name]
    figure = make_subplots(rows=1, cols=len(arms), subplot_titles=[arm.name for arm in arms], horizontal_spacing=0.07)
    figure.update_annotations(font={"size": 12, "color": theme.ink})
    for column, arm in enumerate(arms, start=1):
        share = arm.information / arm.entropies
        rows = _best_codes(share)
        labels = [f"{arm.codes[row]}" for row in rows]
        figure.add_heatmap(
            z=share[rows], x=list(arm.factors), y=list(range(len(rows))), zmin=0, zmax=1, coloraxis="coloraxis",
            customdata=[[label] * len(arm.factors) for label in labels], xgap=1, ygap=1,
            hovertemplate="code %{customdata}, %{x}: %{z:.3f} of its entropy<extra></extra>", row=1, col=column,
        )  # fmt: skip
        figure.update_yaxes(
            tickvals=list(range(len(rows))), ticktext=labels, autorange="reversed", showgrid=False, col=column, row=1
        )
    figure.update_yaxes(title_text="code", col=1)
    low, high = (f"rgba({theme.activation},{alpha})" for alpha in (0, 1))
    bar = {"title": {"text": "share of<br>entropy", "font": {"size": 11}}, "thickness": 10, "outlinewidth": 0}
    return figure.update_layout(
        template=template(theme),
        margin={"l": 64, "r": 20, "t": 32, "b": 44},
        coloraxis={"colorscale": [[0, low], [1, high]], "cmin": 0, "cmax": 1, "colorbar": bar},
    )


def spectrum_figure(report: DisentanglementReport, theme: Theme = LIGHT) -> go.Figure:
    """Centred eigenvalues as shares of one, largest first; the rotated arm and the null have another's."""
    figure = go.Figure()
    held = [(arm, colour) for arm, colour in zip(report.arms, _colours(report.arms, theme), strict=True)]
    for arm, colour in held:
        if NULL_MARK in arm.name or "rotated" in arm.name:
            continue
        values = arm.spectrum[arm.spectrum > 1e-8]
        told = f"VNE {arm.scores[VNE_CENTRED].value:.2f}, effective rank {arm.scores[RANK_CENTRED].value:.1f}"
        figure.add_scatter(
            x=np.arange(1, values.size + 1).tolist(), y=values.tolist(), mode="lines+markers",
            name=f"{arm.name}: {told}", line={"color": colour, "width": 2}, marker={"size": 4},
            hovertemplate=f"{arm.name}, direction %{{x}}: %{{y:.4f}}<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(title_text="direction (log)", type="log", dtick="D2", tickformat="~g")
    figure.update_yaxes(title_text="share of variance (log)", type="log", exponentformat="power", dtick=1)
    figure.update_layout(template=template(theme), showlegend=True, margin={"l": 64, "r": 20, "t": 40, "b": 44})
    return figure


def _best_codes(share: Float[ndarray, "c f"]) -> list[int]:
    """The codes with most information of each factor, factor by factor, none twice."""
    found: list[int] = []
    for column in share.T:
        best = np.argsort(-column, kind="stable")[:CODES_PER_FACTOR]
        found.extend(int(code) for code in best if code not in found)
    return found


def _colours(arms: Sequence[Disentanglement], theme: Theme) -> list[str]:
    named = iter(CATEGORIES)
    return [theme.muted if NULL_MARK in arm.name else next(named) for arm in arms]


def disentanglement_page(reports: Sequence[DisentanglementReport]) -> str:
    """Reports of one source as one page."""
    about: Mapping[str, Any] = reports[0].provenance
    parts = [part for report in reports for part in _parts(report)]
    model = about.get("model", {})
    page = AnalysisPage(
        name="Disentanglement",
        about=f"{model.get('name', '')} · {about.get('hook', '')} · {about.get('source', '')}",
        lead=_LEAD,
        headline=[(f"{metric}, {report.title}", score_text(report.arms[0].scores[metric]).split(" ")[0])
                  for report in reports for metric in ("MIG",)],
        parts=parts,
        command=str(about.get("command", "")),
        provenance=[(key, str(value)) for key, value in _provenance(about).items() if value not in (None, "")],
    )  # fmt: skip
    return render_analysis(page)


_LEAD = (
    "How far single codes stand for single kinds of labels. MIG, SAP, DCI completeness and InfoC: one code for each "
    "factor. Modularity, DCI disentanglement and InfoM: one factor for each code. InfoE and DCI informativeness: "
    "whether the factors can be read at all, on held-out words or documents; where InfoE is under 0.05, InfoM and "
    "InfoC mean nothing and are left out. Whiskers are 95% intervals over those."
)


def _parts(report: DisentanglementReport) -> list[Part]:
    first, slug = report.arms[0], report.title.replace(" ", "-")
    classes = "; ".join(f"{name}: {', '.join(held)}" for name, held in zip(first.factors, first.classes, strict=True))
    unit = f"{report.provenance.get('clusters', 'word')}s"
    note = f"{first.n_examples:,} examples of {first.n_clusters:,} {unit}. {classes}."
    metrics = (*METRICS, COMMONEST, *GEOMETRY)
    rows = [[metric, *(score_text(arm.scores[metric]) for arm in report.arms)] for metric in metrics]
    rows.append(["codes that vary, of all", *(f"{len(arm.codes):,} of {arm.n_codes:,}" for arm in report.arms)])
    rows.append(["codes of enough range", *(f"{arm.n_active:,}" for arm in report.arms)])
    heat = "Best eight codes of each factor; information by 20 equal bins as a share of the factor's entropy."
    return [
        FigurePart(f"metrics-{slug}", f"{report.title}: metrics", note, lambda theme: metrics_figure(report, theme)),
        TablePart(f"table-{slug}", f"{report.title}: figures", "VNE in nats, ranks in directions; 95% intervals in "
                  "brackets.", ["", *(arm.name for arm in report.arms)], rows),
        FigurePart(f"information-{slug}", f"{report.title}: which code tells of which factor", heat,
                   lambda theme: information_figure(report, theme), 460),
        FigurePart(f"spectrum-{slug}", f"{report.title}: how many directions the codes fill", "rows of length one, "
                   "centred", lambda theme: spectrum_figure(report, theme)),
    ]  # fmt: skip


def _provenance(about: Mapping[str, Any]) -> dict[str, Any]:
    model = about.get("model", {})
    keys = ("source", "architecture", "hook", "labels", "clusters", "seed", "halves", "commit")
    return {"model": model.get("name"), "model hash": model.get("content_hash")} | {k: about.get(k) for k in keys}
