"""Architectures on the same activations: what each explains, costs and tells apart, seeds as points; and a page of it.

Takes the JSON of `interp study architectures`.
"""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards.theme import CATEGORIES, FONT, LIGHT, Theme, template

PANELS = (
    ("explained_variance", "explained variance"),
    ("ce_delta", "ΔCE, nats per token"),
    ("l0", "L0 on held-out text"),
    ("dead_share", "dead share"),
)
COLUMNS = (
    ("explained_variance", "EV", ".4f"),
    ("l0", "L0", ".2f"),
    ("ce_delta", "ΔCE", "+.4f"),
    ("kl", "KL", ".4f"),
    ("dead_share", "dead", ".1%"),
    ("dense_share", "dense", ".1%"),
    ("tokens_per_s", "tokens/s", ",.0f"),
    ("probe_k1", "1 feature", ".3f"),
    ("probe_k2", "2 features", ".3f"),
    ("probe_k5", "5 features", ".3f"),
)
PROBES = (1, 2, 5)
_GROUPS = {
    "trained": "Trained",
    "baseline": "Baselines, k contributions of each token",
    "null": "Null arms",
    "apart": "At an L0 of its own",
}
_ROW, _FRAME = 24, 56

Result = Mapping[str, Any]
Figures = Mapping[str, Any]


def architectures_figure(result: Result, theme: Theme = LIGHT) -> go.Figure:
    """Explained variance, ΔCE, L0 and dead share: a row for each arm, a point for each seed; null arms in grey.

    A panel without any figure is left out. ΔCE stands on a logarithmic axis where all of it is positive.
    """
    panels = [(metric, title) for metric, title in PANELS if _measured(result, metric)]
    figure = _frame(result, len(panels), theme)
    for column, (metric, title) in enumerate(panels, 1):
        _add(figure, result, metric, column, theme)
        figure.update_xaxes(title_text=title, row=1, col=column)
        if metric == "ce_delta" and all(value > 0 for value in _values(result, metric)):
            figure.update_xaxes(type="log", title_text=f"{title} (log)", row=1, col=column)
        if metric == "l0":
            figure.add_vline(x=result["target_l0"], line=_dotted(theme), row=1, col=column)
    return figure


def probing_figure(result: Result, theme: Theme = LIGHT) -> go.Figure:
    """Accuracy with 1, 2 and 5 features, the mean over concepts; open: as many other features that fire as often.

    Dotted lines are the commoner answer and a probe of all of the activation.
    """
    figure = _frame(result, len(PROBES), theme)
    lines = {name: value for name, value in result["reference_means"]["model"].items() if name in _LINES}
    for column, k in enumerate(PROBES, 1):
        _add_random(figure, result, k, column, theme)
        _add(figure, result, f"probe_k{k}", column, theme)
        title = f"accuracy, {k} feature{'s' if k > 1 else ''}"
        figure.update_xaxes(title_text=title, range=[0.45, 1.0], row=1, col=column)
        for name, value in lines.items():
            figure.add_vline(x=value, line=_dotted(theme), row=1, col=column)
            if column == 1:
                # A line's own annotation says "new text" where it is given none.
                figure.add_annotation(x=value, y=1, yref="y domain", yanchor="bottom", text=_LINES[name], row=1, col=1)
    figure.update_layout(margin={"t": 28})
    return figure


_LINES = {"dense probe": "dense probe", "majority": "commoner answer"}


def architectures_page(result: Result) -> str:
    """Figures and tables as one HTML file that opens without network."""
    config = {"displaylogo": False, "displayModeBar": False}
    plots = [
        figure(result).to_html(full_html=False, include_plotlyjs=first, config=config)
        for figure, first in ((architectures_figure, True), (probing_figure, False))
    ]
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in _notes(result))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Architectures compared</title>'
        f"<style>{_STYLE}</style></head><body><h1>Architectures on the same activations</h1>"
        f"<p>{html.escape(_told(result))}</p>{plots[0]}{_table(result)}"
        f"<h2>What few features tell</h2><p>{html.escape(_PROBING)}</p>{plots[1]}{_concepts(result)}"
        f"<h2>Notes</h2><ul>{notes}</ul></body></html>\n"
    )


_PROBING = (
    "Logistic regression on the features whose means differ most, accuracy on held-out words, half of them yes; the "
    "mean over concepts. Open circles: other features of the same dictionary that fire as often."
)


def _frame(result: Result, n_columns: int, theme: Theme) -> go.Figure:
    figure = make_subplots(rows=1, cols=n_columns, shared_yaxes=True, horizontal_spacing=0.025)
    height = _FRAME + _ROW * len(result["arms"])
    figure.update_layout(template=template(theme), margin={"l": 150, "t": 12, "r": 12}, height=height)
    titles = [arm["title"] for arm in _arms(result).values()]
    figure.update_yaxes(showgrid=False, autorange="reversed", categoryorder="array", categoryarray=titles)
    figure.update_xaxes(showgrid=True, nticks=6)
    return figure


def _arms(result: Result) -> dict[str, Mapping[str, Any]]:
    """Arms in the order of their groups."""
    arms: Mapping[str, Mapping[str, Any]] = result["arms"]
    return {name: arm for group in _GROUPS for name, arm in arms.items() if arm["group"] == group}


def _values(result: Result, metric: str) -> list[float]:
    return [v for arm in result["arms"].values() for v in arm["metrics"][metric]["seeds"] if v is not None]


def _measured(result: Result, metric: str) -> bool:
    return bool(_values(result, metric))


def _add(figure: go.Figure, result: Result, metric: str, column: int, theme: Theme) -> None:
    trained = [name for name, arm in result["arms"].items() if arm["group"] == "trained"]
    for name, arm in _arms(result).items():
        colour = CATEGORIES[trained.index(name) % len(CATEGORIES)] if name in trained else _colour(arm, theme)
        for trace in _traces(arm["title"], arm["metrics"][metric], colour):
            figure.add_trace(trace, row=1, col=column)


def _colour(arm: Mapping[str, Any], theme: Theme) -> str:
    return theme.muted if arm["group"] == "null" else theme.ink


def _traces(title: str, figures: Figures, colour: str) -> list[go.Scatter]:
    seeds = [(seed, value) for seed, value in enumerate(figures["seeds"]) if value is not None]
    if figures["mean"] is None:
        return []
    points = go.Scatter(
        x=[value for _, value in seeds], y=[title] * len(seeds), customdata=[seed for seed, _ in seeds],
        mode="markers", name=title, marker={"color": colour, "size": 7, "opacity": 0.55},
        hovertemplate=f"{title}, seed %{{customdata}}: %{{x:.4f}}<extra></extra>",
    )  # fmt: skip
    sd = figures["sd"] or 0.0
    mean = go.Scatter(
        x=[figures["mean"]], y=[title], mode="markers", name=f"{title} mean",
        error_x={"type": "data", "array": [sd], "color": colour, "thickness": 1.5, "width": 4},
        marker={"symbol": "line-ns", "size": 14, "line": {"color": colour, "width": 2}},
        hovertemplate=f"{title}, mean: %{{x:.4f}} ± {sd:.4f}<extra></extra>",
    )  # fmt: skip
    return [points, mean]


def _add_random(figure: go.Figure, result: Result, k: int, column: int, theme: Theme) -> None:
    for arm in _arms(result).values():
        found = arm["metrics"][f"random_k{k}"]
        if found["mean"] is not None:
            figure.add_trace(
                go.Scatter(
                    x=[found["mean"]], y=[arm["title"]], mode="markers", name=f"{arm['title']} random features",
                    marker={"symbol": "circle-open", "size": 6, "color": theme.muted},
                    hovertemplate=f"{arm['title']}, features that fire as often: %{{x:.3f}}<extra></extra>",
                ),
                row=1, col=column,
            )  # fmt: skip


def _dotted(theme: Theme) -> dict[str, Any]:
    return {"color": theme.muted, "dash": "dot", "width": 1}


def _told(result: Result) -> str:
    about, base = result["about"], result["about"]["settings"]["base"]
    n_seeds, name = len(about["settings"]["seeds"]), str(about["model"].get("name")).rsplit("/", 1)[-1]
    return (
        f"{name}, {about['hook']}: {base['sae']['d_sae']:,} features, {base['tokens']:,} training tokens, "
        f"{n_seeds} seed{'s' if n_seeds > 1 else ''}; scored on {result['n_tokens']:,} held-out tokens at L0 "
        f"{result['target_l0']:g}. Dots are seeds, bars mean ± standard deviation."
    )


def _notes(result: Result) -> list[str]:
    about, arms = result["about"], result["arms"]
    ways = dict.fromkeys(arm["l0_by"] for arm in arms.values())
    notes = [f"L0, {way}: {', '.join(arm['title'] for arm in arms.values() if arm['l0_by'] == way)}" for way in ways]
    notes += [
        f"{arms[name]['title']}: L0 {l0:.2f} is more than 5% from {result['target_l0']:g}"
        for name, l0 in result["off_target"].items()
    ]
    if about["ce"]:
        notes.append(f"ΔCE and KL {about['ce']}")
    hardware = ", ".join(f"{key} {value}" for key, value in about["hardware"].items())
    notes.append(f"tokens/s is of the step alone, while the machine did whatever else it did: {hardware}")
    notes.append(
        "the arm of shuffled weights is scored on the activations of that model, the others on the model's own"
    )
    return notes + [f"{name} failed: {why}" for name, why in result["failed"].items()]


def _table(result: Result) -> str:
    head = "".join(f"<th>{html.escape(title)}</th>" for title in ("", *(title for _, title, _ in COLUMNS)))
    rows, group = [], None
    for arm in _arms(result).values():
        if arm["group"] != group:
            group = arm["group"]
            rows.append(f'<tr><td class="group" colspan="{len(COLUMNS) + 1}">{html.escape(_GROUPS[group])}</td></tr>')
        rows.append(_row([arm["title"], *(_spread(arm["metrics"][name], form) for name, _, form in COLUMNS)]))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _concepts(result: Result) -> str:
    """Accuracy with one feature, concept by concept."""
    arms = _arms(result)
    dense = {one["concept"]: one["accuracy"] for one in result["references"]["model"] if one["arm"] == "dense probe"}
    head = "".join(
        f"<th>{html.escape(title)}</th>"
        for title in ("1 feature", *(arm["title"] for arm in arms.values()), "dense probe")
    )
    rows = (
        _row([concept, *(_spread(found[name]["k1"], ".3f") for name in arms), f"{dense[concept]:.3f}"])
        for concept, found in result["probing"].items()
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _row(cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>"


def _spread(figures: Figures, form: str) -> str:
    if figures["mean"] is None:
        return "–"
    sd = "" if figures["sd"] is None else f" ±{format(figures['sd'], form.removeprefix('+'))}"
    return f"{format(figures['mean'], form)}{sd}"


_STYLE = (
    f"body{{background:{LIGHT.background};color:{LIGHT.ink};font:14px {FONT};margin:24px auto;max-width:1280px;"
    "padding:0 16px}h1{font-size:18px;font-weight:600;margin:0 0 8px}"
    "h2{font-size:15px;font-weight:600;margin:24px 0 8px}"
    "p,li{max-width:80ch;margin:0 0 8px}li{margin:0}ul{padding-left:18px}.wide{overflow-x:auto}"
    "table{border-collapse:collapse;margin:16px 0;font-variant-numeric:tabular-nums;font-size:13px}"
    f"th,.group{{color:{LIGHT.muted};font-weight:400;font-size:12px}}"
    f"th,td{{text-align:right;white-space:nowrap;padding:5px 8px;border-bottom:1px solid {LIGHT.line}}}"
    "th:first-child,td:first-child{text-align:left;padding-left:0}"
)
