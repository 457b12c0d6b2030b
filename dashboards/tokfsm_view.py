"""TokFSM: models with codebooks beside the best possible and the published ones; precision, interventions; a page."""

import math
from functools import partial

import numpy as np
import plotly.graph_objects as go

from dashboards.analysis_page import AnalysisPage, FigurePart, Part, TablePart, render_analysis
from dashboards.theme import CATEGORIES, LIGHT, Theme, template
from interp.codebooks.precision import LEAST_FIRINGS
from interp.codebooks.tokfsm_results import (
    COLUMNS,
    LEAST_VALID,
    LOSS_TOLERANCE,
    NAMES,
    PRECISION_COLUMNS,
    ArmResult,
    StateIntervention,
    TokFSMStudy,
)


def precision_figure(study: TokFSMStudy, theme: Theme = LIGHT) -> go.Figure:
    """How precisely the best code tells a state, beside the best neuron at the same recall."""
    arms = [arm for arm in study.arms if arm.precision is not None]
    figure = go.Figure()
    for index, (kind, colour) in enumerate((("codes", theme.accent), ("neurons", CATEGORIES[1]))):
        values = [100 * arm.precision[index] for arm in arms if arm.precision is not None]
        figure.add_bar(
            x=list(range(len(arms))), y=values, name=kind, marker_color=colour, width=0.35,
            offset=-0.37 + 0.37 * index, text=[f"{value:.1f}" for value in values], textposition="outside",
            customdata=[arm.name for arm in arms], hovertemplate=f"%{{customdata}}, {kind}: %{{y:.1f}}%<extra></extra>",
        )  # fmt: skip
    figure.update_layout(template=template(theme), showlegend=True, margin={"t": 40})
    figure.update_xaxes(
        tickvals=list(range(len(arms))), ticktext=[arm.name for arm in arms], range=[-0.9, len(arms) - 0.1]
    )
    return figure.update_yaxes(
        title_text="mean precision over states, %", range=[0, 112], tickvals=[0, 25, 50, 75, 100]
    )


def intervention_figure(arm: ArmResult, theme: Theme = LIGHT) -> go.Figure:
    """Divergence from what can follow the other state, with its codes put in; random codes as dots, the floor as a bar.

    1 is what it is without intervention.
    """
    figure = go.Figure()
    rows = arm.interventions
    for at, one in enumerate(rows):
        spread = np.random.default_rng(at).uniform(-0.2, 0.2, len(one.controls))
        figure.add_scatter(
            x=list(one.controls), y=(at + spread).tolist(), mode="markers", name="random codes",
            marker={"color": theme.muted, "size": 5, "opacity": 0.5}, showlegend=at == 0,
            hovertemplate="random codes: %{x:.3f}<extra></extra>",
        )  # fmt: skip
        figure.add_scatter(
            x=[one.floor, one.floor], y=[at - 0.28, at + 0.28], mode="lines", line={"color": CATEGORIES[2], "width": 3},
            name="the model in that state", showlegend=at == 0,
            hovertemplate="the model in that state of its own accord: %{x:.3f}<extra></extra>",
        )  # fmt: skip
        figure.add_scatter(
            x=[one.jsd], y=[at], mode="markers", marker={"color": theme.accent, "size": 11}, name="codes of the state",
            showlegend=at == 0,
            hovertemplate=f"{_named(one)}: %{{x:.3f}}, p {one.p:.3f}<extra></extra>",
        )  # fmt: skip
    figure.add_vline(x=1, line={"color": theme.muted, "width": 1, "dash": "dot"})
    figure.update_layout(template=template(theme), showlegend=True, margin={"l": 190, "t": 40})
    right = max([1.0, *(max(one.jsd, one.floor, *one.controls) for one in rows)])
    figure.update_xaxes(
        title_text="JSD from what can follow the other state; 1 is without intervention",
        # A floor is often next to zero: its bar and the mark beside it need room.
        range=[-0.025 * right, 1.06 * right],
        showgrid=True,
    )
    ticks = [_named(one) for one in rows]
    # First row on top, with room for its bar.
    return figure.update_yaxes(
        tickvals=list(range(len(rows))), ticktext=ticks, range=[len(rows) - 0.5, -0.5], showgrid=False
    )


def _named(one: StateIntervention) -> str:
    return f"{NAMES[one.kind]}, {one.where}"


def tokfsm_page(study: TokFSMStudy) -> str:
    """Figures and tables as one HTML file."""
    own, base = study.arms[-1] if len(study.arms) == 1 else study.arms[1], study.arms[0]
    parts: list[Part] = [TablePart("arms", "Ours (published)", _ARMS, COLUMNS, study.rows())]
    parts.append(TablePart("best", "The machine", "", ("", "ours", "oracle"), _machine_rows(study)))
    if any(arm.precision and not math.isnan(arm.precision[0]) for arm in study.arms):
        draw, title = partial(precision_figure, study), "Codes and neurons as detectors of states"
        parts.append(FigurePart("precision", title, _PRECISION, draw, 320))
    if rows := study.precision_rows():
        title = "Precision by site, of states and of states with a digit"
        parts.append(TablePart("precisions", title, _BY_SITE, PRECISION_COLUMNS, rows, text=(0, 1, 2)))
    for index, arm in enumerate(study.arms):
        parts += _intervention_parts(arm, f"intervention-{index}")
    page = AnalysisPage(
        name=f"TokFSM, size {study.size}",
        about="a machine of 100 states in a GPT-NeoX, with and without codebooks",
        lead=(
            "Each state is two digits and leads to ten others. Judged on fresh walks. Published figures are those of "
            "the full size (4 layers, d=128, rows of 128 tokens); figures of other sizes are not comparable digit by "
            "digit, but to the base model and the best possible at their own length."
        ),
        headline=[
            ("loss, base", f"{base.scores.loss_nats:.4f}"),
            (f"loss, {own.name}", f"{own.scores.loss_nats:.4f}"),
            ("best possible", f"{study.bayes_loss:.4f}"),
            ("valid transitions", f"{own.scores.valid:.1%}"),
        ],
        parts=parts,
        command=str(study.provenance.get("command", "")),
        provenance=[(key, str(value)) for key, value in study.provenance.items() if key != "command"],
    )
    return render_analysis(page)


def _intervention_parts(arm: ArmResult, name: str) -> list[Part]:
    if not arm.interventions:
        return []
    height, title = 120 + 44 * len(arm.interventions), f"Codes of another state put in: {arm.name}"
    rows = [_row(one) for one in arm.interventions]
    return [
        FigurePart(name, title, _INTERVENTION, partial(intervention_figure, arm), height),
        TablePart(f"{name}-table", "The same in figures", "", _INTERVENED, rows, text=(0, 1)),
    ]


_ARMS = (
    "State accuracy: share of a state's ten successors among the model's ten likeliest next states. Valid: probability "
    f"that a state drawn from the model can follow. Within tolerance: loss at most {LOSS_TOLERANCE} above the base "
    f"model's, valid at least {LEAST_VALID:.0%}; asked of codebooks that cost no more as published."
)
_PRECISION = (
    "For each state the most precise code that finds more than 1% of its tokens, and the neuron of the base model that "
    "is most precise at the same recall, either sign. Chosen on half of the walks, judged on the other. Published at "
    "full size: codes 97.1, neurons 70.5."
)
_BY_SITE = (
    "State: as its second digit is read. State and digit: one token later, when the next state's first digit is read; "
    f"pairs are rare: those with fewer than {LEAST_FIRINGS} tokens where codes are chosen are left out, and so are "
    "codes that are active on fewer. Recall is that of the code, on walks on which none was chosen."
)
_INTERVENTION = (
    "At the last token of a walk the codes that are commonest in another state are put in, in every layer or in one; "
    "state: as its second digit is read, state and digit: one token later. Random codes are about as frequent in the "
    "same codebooks; the green bar is how far the model itself is from the truth in a state."
)
_INTERVENED = ("codes of another", "put in at", "JSD", "floor", "valid there without", "with", "random codes, 95%", "p")


def _machine_rows(study: TokFSMStudy) -> list[tuple[str, str, str]]:
    loss, accuracy = study.bayes_at_128
    return [
        ("state and digit pairs", str(study.n_pairs), "686"),
        ("best loss at 128 tokens, nats", f"{loss:.4f}", "1.1748"),
        ("best accuracy at 128 tokens, %", f"{100 * accuracy:.2f}", "46.38"),
        ("best loss at this length, nats", f"{study.bayes_loss:.4f}", "–"),
        ("best accuracy at this length, %", f"{100 * study.bayes_accuracy:.2f}", "–"),
    ]


def _row(one: StateIntervention) -> tuple[str, ...]:
    low, high = np.quantile(one.controls, (0.025, 0.975)).tolist() if one.controls else (math.nan, math.nan)
    figures = (f"{one.jsd:.3f}", f"{one.floor:.3f}", f"{one.valid_without:.3f}", f"{one.valid_with:.3f}")
    return (NAMES[one.kind], one.where, *figures, f"{low:.3f} to {high:.3f}", f"{one.p:.3f}")
