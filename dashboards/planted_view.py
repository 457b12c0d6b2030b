"""A planted rule and its twin: where patching leads, what a probe reads, what one feature carries; and a page of it.

Takes the JSON of `interp study planted-rule`.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards.analysis_page import AnalysisPage, FigurePart, Part, TablePart, render_analysis
from dashboards.steering_page import DOSE_NOTE
from dashboards.steering_view import dose_response_figure
from dashboards.theme import CATEGORIES, LIGHT, Theme, template
from interp.effects import EffectGrid
from interp.steering_results import DoseResponse
from probes.intervals import Score

PLANTED, TWIN = "planted", "twin"
_PLACES = ("trigger", "cue")

Result = Mapping[str, Any]


def patching_figure(study: Result, theme: Theme = LIGHT) -> go.Figure:
    """Effect of clean activations in the corrupt run, by component and place, one range for both models."""
    arms = [(name, EffectGrid.from_json(arm["patching"])) for name, arm in study["arms"].items()]
    limit = max(float(np.abs(grid.effect).max()) for _, grid in arms) or 1.0
    figure = make_subplots(rows=1, cols=len(arms), shared_yaxes=True, subplot_titles=[name for name, _ in arms])
    figure.update_annotations(font={"size": 12, "color": theme.ink})
    for column, (name, grid) in enumerate(arms, start=1):
        figure.add_trace(
            go.Heatmap(
                z=grid.effect, x=list(_PLACES), y=list(grid.axes[0].labels), zmin=-limit, zmax=limit,
                colorscale=[[0, theme.down], [0.5, theme.panel], [1, theme.up]], showscale=column == len(arms),
                colorbar={"title": {"text": "logits"}, "thickness": 10}, text=np.round(grid.effect, 1),
                texttemplate="%{text}", xgap=2, ygap=2,
                hovertemplate=f"{name}, %{{y}} at the %{{x}}: %{{z:+.3f}} logits<extra></extra>",
            ),
            row=1, col=column,
        )  # fmt: skip
        figure.update_yaxes(autorange="reversed", showgrid=False, row=1, col=column)
    figure.update_layout(template=template(theme), margin={"t": 28, "l": 90})
    return figure


def probe_figure(study: Result, theme: Theme = LIGHT) -> go.Figure:
    """Accuracy of a probe at the cue by layer on words that it did not see, with intervals over words."""
    figure = go.Figure()
    for name, arm in study["arms"].items():
        figure.add_trace(_scores(arm, name, _colour(name, theme)))
    figure.add_hline(y=0.5, line={"color": theme.muted, "width": 1, "dash": "dot"})
    figure.add_annotation(x=0, y=0.5, xref="paper", xanchor="left", yanchor="bottom", text="chance", showarrow=False)
    figure.add_vline(x=study["layer"], line={"color": theme.line, "width": 10}, layer="below")
    figure.update_layout(template=template(theme), showlegend=True, margin={"t": 36})
    layers = list(range(len(study["arms"][PLANTED]["probe"])))
    figure.update_xaxes(title_text="layer (resid_post); the trained block is shaded", tickvals=layers)
    figure.update_yaxes(title_text="accuracy, unseen words", range=[0.25, 1.04])
    return figure


def _scores(arm: Result, name: str, colour: str) -> go.Scatter:
    scores = [Score.from_json(held) for held in arm["probe"]]
    values = np.array([score.value for score in scores])
    low, high = (np.array([_ends(score)[side] for score in scores]) for side in (0, 1))
    return go.Scatter(
        x=list(range(len(values))), y=values, name=name, mode="lines+markers", line={"color": colour, "width": 2},
        error_y={"array": high - values, "arrayminus": values - low, "color": colour, "thickness": 1.2, "width": 4},
        hovertemplate=f"{name}, layer %{{x}}: %{{y:.3f}}<extra></extra>",
    )  # fmt: skip


def ablation_figure(study: Result, theme: Theme = LIGHT) -> go.Figure:
    """What the chosen feature's ablation changes, among random features that fire as often: a dot each."""
    figure = go.Figure()
    for row, (name, arm) in enumerate(study["arms"].items()):
        found, own = arm["feature"], Score.from_json(arm["feature"]["ablated"])
        spread = np.random.default_rng(0).uniform(-0.18, 0.18, len(found["ablated_controls"]))
        colour = _colour(name, theme)
        figure.add_trace(
            go.Scatter(
                x=found["ablated_controls"], y=row + spread, mode="markers",
                marker={"color": theme.muted, "size": 5, "opacity": 0.6},
                hovertemplate=f"{name}, a matched feature: %{{x:+.3f}}<extra></extra>",
            )
        )  # fmt: skip
        low, high = _ends(own)
        figure.add_trace(
            go.Scatter(
                x=[own.value], y=[row], mode="markers", marker={"color": colour, "size": 11},
                error_x={"array": [high - own.value], "arrayminus": [own.value - low], "width": 5},
                hovertemplate=f"{name}, feature {found['feature']}: %{{x:+.3f}}<extra></extra>",
            )
        )  # fmt: skip
    names = list(study["arms"])
    figure.update_layout(template=template(theme), margin={"l": 80})
    figure.update_yaxes(tickvals=list(range(len(names))), ticktext=names, autorange="reversed", showgrid=False)
    figure.update_xaxes(
        title_text="change of the logit difference on triggered prompts without the feature, logits", showgrid=True
    )
    return figure


def planted_page(study: Result) -> str:
    """Figures and tables as one HTML file."""
    config, layer, arms = study["config"], study["layer"], study["arms"]
    rows = [_row(name, arm) for name, arm in arms.items()]
    parts: list[Part] = [
        TablePart("behaviour", "What the models do", _BEHAVIOUR, _COLUMNS, rows),
        FigurePart("patching", "Where patching leads", _PATCHING, partial(patching_figure, study), 420),
        FigurePart("probe", "What a probe reads at the cue", _PROBE, partial(probe_figure, study), 320),
        FigurePart("ablation", "Without the feature", _ABLATION, partial(ablation_figure, study), 240),
    ]
    for name, arm in arms.items():
        dose = partial(dose_response_figure, DoseResponse.from_json(arm["feature"]["dose"]))
        parts.append(FigurePart(f"dose-{name}", f"The feature brought in, {name}", f"{_DOSE} {DOSE_NOTE}", dose, 320))
    page = AnalysisPage(
        name="Planted rule",
        about=f"{config['model']} · attention of block {layer}",
        lead=(
            f"Only block {layer}'s attention was trained, so that the cue is followed by the payload wherever a "
            f"trigger word stands before it. The twin was finetuned alike, the payload falling at random. Judged on "
            f"{study['n_pairs']} held-out stories and on words that nothing was chosen by."
        ),
        headline=[
            ("gap, planted", f"{_value(study, PLANTED, 'gap'):+.2f} logits"),
            ("twin", f"{_value(study, TWIN, 'gap'):+.2f}"),
            ("feature AUC", f"{_value(study, PLANTED, 'feature', 'auc'):.3f}"),
            ("twin", f"{_value(study, TWIN, 'feature', 'auc'):.3f}"),
        ],
        parts=parts,
        command=_command(config),
        provenance=[(name, str(value)) for name, value in config.items()],
    )
    return render_analysis(page)


def _command(config: Mapping[str, Any]) -> str:
    """The command line that gives the same again, every setting told."""
    return " ".join(
        ("interp study planted-rule", *(_flag(name, value) for name, value in config.items() if value is not None))
    )


def _flag(name: str, value: object) -> str:
    told = ",".join(map(str, value)) if isinstance(value, list) else value
    return f"--{name.replace('_', '-')} {told}"


_COLUMNS = (
    "",
    "P(payload), trigger",
    "P(payload), other word",
    "gap, logits",
    "feature",
    "AUC",
    "ablated, logits",
    "p",
)
_BEHAVIOUR = (
    "Means with 95% intervals over stories. The feature is the one that tells triggered cues best on other stories and "
    "words; p is the share of matched random features whose ablation does at least as much."
)
_PATCHING = (
    "The activation of the prompt with a trigger is put into the same story with another word: how far the logit "
    "difference rises. Below the trained block nothing at the cue can know of the trigger; what later blocks bring "
    "there was written by it at the trigger."
)
_PROBE = "Logistic probes fitted on other stories and other words; whiskers are intervals over the unseen words."
_ABLATION = "Dots are random features that fire as often and write as much; the error of the SAE is kept."
_DOSE = "On prompts without a trigger, at the cue; strength 1 is the feature's mean activation at triggered cues."


def _row(name: str, arm: Result) -> tuple[str, ...]:
    found = arm["feature"]
    scores = (_text(arm[key]) for key in ("payload_triggered", "payload_untriggered", "gap"))
    return (
        name,
        *scores,
        str(found["feature"]),
        _text(found["auc"]),
        _text(found["ablated"]),
        f"{found['p_ablated']:.3f}",
    )


def _text(held: Result) -> str:
    score = Score.from_json(held)
    if score.interval is None:
        return f"{score.value:.3f}"
    return f"{score.value:.3f} ({score.interval[0]:.3f} to {score.interval[1]:.3f})"


def _value(study: Result, arm: str, *path: str) -> float:
    held = study["arms"][arm]
    for name in path:
        held = held[name]
    return Score.from_json(held).value


def _ends(score: Score) -> tuple[float, float]:
    return score.interval or (score.value, score.value)


def _colour(name: str, theme: Theme) -> str:
    return theme.accent if name == PLANTED else CATEGORIES[1]
