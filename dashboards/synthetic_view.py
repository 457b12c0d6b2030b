"""SAEs scored against known features: a figure per metric, an arm per row, a point per seed; and a page of it."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards.theme import CATEGORIES, FONT, LIGHT, Theme, template

PANELS = (
    ("f1", "F1"),
    ("mcc", "MCC"),
    ("explained_variance", "explained variance"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("absorption", "absorption"),
    ("hedging", "hedging"),
    ("dead_share", "dead share"),
)
PANELS_PER_ROW = 4
TRAINED = ("matryoshka", "batch_topk", "l1")
_NAMES = {"l1": "L1", "batch_topk": "BatchTopK", "matryoshka": "Matryoshka"}
_COLUMNS = (*PANELS, ("l0", "L0"))

Arms = Mapping[str, Mapping[str, Mapping[str, Any]]]


def synthetic_figure(result: Mapping[str, Any], theme: Theme = LIGHT) -> go.Figure:
    """Each seed as a point, mean and standard deviation beside, of a synthetic study's result; null arms in grey.

    Where the source gives a figure it stands as an open diamond: it is of a larger setting, so order counts, not size.
    """
    arms: Arms = result["arms"]
    n_rows = -(-len(PANELS) // PANELS_PER_ROW)
    figure = make_subplots(
        rows=n_rows, cols=PANELS_PER_ROW, shared_yaxes=True, horizontal_spacing=0.025, vertical_spacing=0.17
    )
    figure.update_layout(template=template(theme), margin={"l": 110, "t": 12, "r": 12}, height=n_rows * 260)
    for index, (metric, title) in enumerate(PANELS):
        place = {"row": index // PANELS_PER_ROW + 1, "col": index % PANELS_PER_ROW + 1}
        for arm, metrics in arms.items():
            for trace in _traces(arm, metrics[metric], _colour(arm, theme)):
                figure.add_trace(trace, **place)
            if metric in (published := result["published"].get(arm, {})):
                figure.add_trace(_published(arm, published[metric], _colour(arm, theme)), **place)
        figure.update_xaxes(title_text=title, showgrid=True, rangemode="tozero", nticks=5, **place)
        figure.update_yaxes(showgrid=False, autorange="reversed", **place)
    return figure


def synthetic_page(result: Mapping[str, Any]) -> str:
    """The figure and the table as one HTML file that opens without network."""
    config, data = result["config"], result["config"]["data"]
    told = (
        f"{data['n_features']:,} true features in {data['width']} dimensions, {data['l0']:g} of them per token, "
        f"{data['n_trees']} trees; {config['d_sae']} latents, scored at L0 {config['eval_l0']:g}; "
        f"{config['seeds']} seeds, {config['steps']:,} steps of {config['batch_size']:,} tokens"
    )
    plot = synthetic_figure(result).to_html(
        full_html=False, include_plotlyjs=True, config={"displaylogo": False, "displayModeBar": False}
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>SAEs against known features</title>'
        f"<style>{_STYLE}</style></head><body><h1>SAEs against known features</h1><p>{html.escape(told)}</p>"
        f"<p>Dots are seeds, bars mean ± standard deviation, open diamonds the published figures of a larger setting "
        f"(16,384 features, 768 dimensions, 4,096 latents; arXiv 2602.14687).</p>{plot}{_table(result['arms'])}"
        f"{_orders(result['orders'])}</body></html>\n"
    )


def _traces(arm: str, figures: Mapping[str, Any], colour: str) -> list[go.Scatter]:
    seeds = [(seed, value) for seed, value in enumerate(figures["seeds"]) if value is not None]
    if not seeds:
        return []
    points = go.Scatter(
        x=[value for _, value in seeds], y=[_name(arm)] * len(seeds), customdata=[seed for seed, _ in seeds],
        mode="markers", name=arm, marker={"color": colour, "size": 6, "opacity": 0.45},
        hovertemplate=f"{_name(arm)}, seed %{{customdata}}: %{{x:.4f}}<extra></extra>",
    )  # fmt: skip
    mean = go.Scatter(
        x=[figures["mean"]], y=[_name(arm)], mode="markers", name=f"{arm} mean",
        error_x={"type": "data", "array": [figures["sd"] or 0.0], "color": colour, "thickness": 1.5, "width": 5},
        marker={"symbol": "line-ns", "size": 18, "line": {"color": colour, "width": 2}},
        hovertemplate=f"{_name(arm)}, mean: %{{x:.4f}} ± {figures['sd'] or 0.0:.4f}<extra></extra>",
    )  # fmt: skip
    return [points, mean]


def _published(arm: str, value: float, colour: str) -> go.Scatter:
    return go.Scatter(
        x=[value], y=[_name(arm)], mode="markers", name=f"{arm} published",
        marker={"symbol": "diamond-open", "size": 9, "color": colour, "line": {"width": 1}},
        hovertemplate=f"{_name(arm)}, published: %{{x:.3f}}<extra></extra>",
    )  # fmt: skip


def _name(arm: str) -> str:
    return _NAMES.get(arm, arm.replace("_", " "))


def _colour(arm: str, theme: Theme) -> str:
    if arm in TRAINED:
        return CATEGORIES[TRAINED.index(arm)]
    return theme.ink if arm == "oracle" else theme.muted


def _table(arms: Arms) -> str:
    head = "".join(f"<th>{html.escape(title)}</th>" for _, title in (("", ""), *_COLUMNS))
    rows = (_row([_name(arm), *(_spread(metrics[name]) for name, _ in _COLUMNS)]) for arm, metrics in arms.items())
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _orders(orders: Mapping[str, Mapping[str, Any]]) -> str:
    titles = dict(_COLUMNS)
    rows = (
        _row([titles[metric], " > ".join(map(_name, facts["order"])), _held(facts)]) for metric, facts in orders.items()
    )
    head = "<th></th><th>published order</th><th>seeds on which each step holds</th>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _held(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{held} of {facts['seeds']}" for held in facts["seeds_held"])


def _row(cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>"


def _spread(figures: Mapping[str, Any]) -> str:
    if figures["mean"] is None:
        return "not measured"
    return f"{figures['mean']:.3f}" + (f" ± {figures['sd']:.3f}" if figures["sd"] is not None else "")


_STYLE = (
    f"body{{background:{LIGHT.background};color:{LIGHT.ink};font:14px {FONT};margin:24px auto;max-width:1200px}}"
    "h1{font-size:18px;font-weight:600;margin:0 0 8px}p{max-width:80ch;margin:0 0 8px}"
    "table{border-collapse:collapse;margin:16px 0;font-variant-numeric:tabular-nums}"
    f"th{{color:{LIGHT.muted};font-weight:400;font-size:12px}}"
    f"th,td{{text-align:right;white-space:nowrap;padding:5px 10px;border-bottom:1px solid {LIGHT.line}}}"
    "th:first-child,td:first-child{text-align:left;padding-left:0}"
)
