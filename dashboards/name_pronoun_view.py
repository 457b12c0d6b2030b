"""Names and their pronouns: features taken out beside matched ones, and their dose-response; and a page of it.

Takes the JSON of `interp study name-pronoun`.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import plotly.graph_objects as go

from dashboards.analysis_page import AnalysisPage, FigurePart, Part, TablePart, render_analysis
from dashboards.steering_page import dose_response_parts
from dashboards.theme import LIGHT, Theme, template
from interp.steering_results import DoseResponse

Result = Mapping[str, Any]


def ablation_figure(study: Result, theme: Theme = LIGHT) -> go.Figure:
    """Change of the right pronoun's lead without the strongest features; dots are matched random sets."""
    figure = go.Figure()
    found = study["ablations"]
    for row, one in enumerate(found):
        spread = np.random.default_rng(0).uniform(-0.2, 0.2, len(one["controls"]))
        change = one["change"]
        low, high = change["interval"] or (change["value"], change["value"])
        figure.add_trace(
            go.Scatter(
                x=one["controls"], y=row + spread, mode="markers",
                marker={"color": theme.muted, "size": 5, "opacity": 0.6},
                hovertemplate="a matched set: %{x:+.3f}<extra></extra>",
            )
        )  # fmt: skip
        figure.add_trace(
            go.Scatter(
                x=[change["value"]], y=[row], mode="markers", marker={"color": theme.accent, "size": 11},
                error_x={"array": [high - change["value"]], "arrayminus": [change["value"] - low], "width": 5},
                hovertemplate=f"{one['n_features']} features: %{{x:+.3f}}<extra></extra>",
            )
        )  # fmt: skip
        figure.add_vline(x=-one["before"]["value"], line={"color": theme.line, "width": 1, "dash": "dot"})
    figure.add_annotation(
        x=-found[0]["before"]["value"], y=1, yref="paper", yanchor="bottom", text="nothing left", showarrow=False
    )
    figure.update_layout(template=template(theme), margin={"l": 96, "t": 24})
    ticks = [f"{one['n_features']} feature{'s' if one['n_features'] > 1 else ''}" for one in found]
    figure.update_yaxes(tickvals=list(range(len(found))), ticktext=ticks, autorange="reversed", showgrid=False)
    figure.update_xaxes(title_text="change of the right pronoun's lead, logits", showgrid=True)
    return figure


def name_pronoun_page(study: Result) -> str:
    """Figures and tables as one HTML file."""
    dose, accuracy, config = DoseResponse.from_json(study["dose"]), study["accuracy"], study["config"]
    last = study["ablations"][-1]
    names = [(side, *(", ".join(held[g]) for g in ("female", "male"))) for side, held in study["names"].items()]
    features = [(str(f), f"{a:+.3f}") for f, a in zip(study["features"], study["attribution"], strict=True)]
    parts: list[Part] = [
        FigurePart("ablation", "Features taken out", _ABLATION, partial(ablation_figure, study), 280),
        TablePart("ablation-table", "By number of features", "", _COLUMNS, [_row(one) for one in study["ablations"]]),
        *dose_response_parts(dose, title="Steered from female to male"),
        TablePart("features", "The features", _CHOSEN, ("feature", "attribution, logits"), features),
        TablePart("names", "Names", "", ("", "female", "male"), names, text=(0, 1, 2)),
    ]
    page = AnalysisPage(
        name="Name to pronoun",
        about=f"{study['model']} · {study['hook']}",
        lead=(
            f"Features are chosen on {_count(study, 'train')} names and three sentences, and judged on "
            f"{_count(study, 'test')} other names in three other sentences, where the model prefers the name's own "
            f"pronoun in {accuracy['test']:.1%} of the prompts (training names {accuracy['train']:.1%}). Without the "
            f"{last['n_features']} strongest its lead of {last['before']['value']:.2f} logits changes by "
            f"{last['change']['value']:+.2f}; without as many random features that fire as often and write as much by "
            f"{np.mean(last['controls']):+.2f}."
        ),
        headline=[
            ("change without", f"{last['change']['value']:+.2f} of {last['before']['value']:.2f}"),
            ("p", f"{last['p']:.3f}"),
            ("slope", f"{float(dose.slope.value):+.2f}"),
        ],
        parts=parts,
        command=_command(config),
        provenance=[(name, str(value)) for name, value in config.items()],
    )
    return render_analysis(page)


_COLUMNS = ("features", "right pronoun's lead", "change without", "matched sets, mean", "paired difference", "p")
_ABLATION = (
    "From the name's last token on; the SAE's error is kept. Dots are random sets that fire as often and write as much "
    "there. Whiskers: 95% over names. The dotted line is where the lead would be gone."
)
_CHOSEN = "By activation times gradient along the decoder row on training prompts, towards the name's own pronoun."


def _row(one: Result) -> tuple[str, ...]:
    spans = (_text(one[name]) for name in ("before", "change"))
    return (str(one["n_features"]), *spans, f"{np.mean(one['controls']):+.3f}", _text(one["gap"]), f"{one['p']:.3f}")


def _text(held: Result) -> str:
    low_high = held["interval"]
    span = "" if low_high is None else f" ({low_high[0]:+.2f} to {low_high[1]:+.2f})"
    return f"{held['value']:+.2f}{span}"


def _count(study: Result, side: str) -> int:
    return sum(len(names) for names in study["names"][side].values())


def _command(config: Mapping[str, Any]) -> str:
    """The command line that gives the same again, every setting told."""
    return " ".join(
        ("interp study name-pronoun", *(_flag(name, value) for name, value in config.items() if value is not None))
    )


def _flag(name: str, value: object) -> str:
    told = ",".join(map(str, value)) if isinstance(value, list) else value
    return f"--{name.replace('_', '-')} {told}"
