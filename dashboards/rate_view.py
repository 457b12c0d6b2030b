"""Rate against distortion: bits per token and what they buy, a line for each architecture; and a page of it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from dashboards.analysis_page import AnalysisPage, FigurePart, TablePart, render_analysis
from dashboards.contract import ARCHITECTURES
from dashboards.theme import CATEGORIES, LIGHT, Theme, template
from saes.rate_curve import CHOSEN_WITHIN
from saes.rate_results import Matched, RateArm, RateDistortion

MATCHED_BITS = (16.0, 32.0, 64.0, 128.0)
CODEBOOK = "codebook"
Point = tuple[float, float, str]
"""Bits, value, and what a reader is told of it."""


def rate_figure(found: RateDistortion, theme: Theme = LIGHT) -> go.Figure:
    """Explained variance by bits per token (log): lines through the points that no other of the architecture beats.

    Faint points are those that are beaten, grey what was not trained, dotted the bound of a Gaussian of the same
    covariance. What explains less than nothing lies below the frame.
    """
    figure = _frame("explained variance", theme)
    fewest = min(point.bits for arm in found.arms for point in arm.curve.points)
    x, y = (list(axis) for axis in zip(*(at for at in found.gaussian if at[0] >= fewest / 2), strict=True))
    figure.add_scatter(
        x=x, y=y, mode="lines", name="best code of a Gaussian", line={"color": theme.ink, "width": 1, "dash": "dot"},
        hovertemplate="best code of a Gaussian: EV %{y:.4f} at %{x:.1f} bits<extra></extra>",
    )  # fmt: skip
    for name in found.names():
        hull = {(arm.name, point.value_bits) for arm, point in found.hull(name)}
        beaten = [
            (point.bits, point.explained_variance)
            for arm in found.of(name)
            for point in arm.curve.points
            if (arm.name, point.value_bits) not in hull
        ]
        style = _style(found, name, theme)
        figure.add_scatter(
            x=[bits for bits, _ in beaten], y=[value for _, value in beaten], mode="markers", hoverinfo="skip",
            marker={"color": style["line"]["color"], "size": 4, "opacity": 0.25}, showlegend=False, legendgroup=name,
        )  # fmt: skip
        points = [
            (point.bits, point.explained_variance, f"{arm.name}, {_values(arm, point.value_bits)}")
            for arm, point in found.hull(name)
        ]
        _add(figure, name, points, style, "EV %{y:.4f}")
    least = min((y for arm in found.arms for y in (point.explained_variance for point in arm.curve.points)), default=0)
    return figure.update_yaxes(range=[min(max(least, 0.0), 0.6) - 0.02, 1.01])


def cost_figure(found: RateDistortion, theme: Theme = LIGHT) -> go.Figure:
    """ΔCE by bits per token, both logarithmic, each dictionary with its chosen quantiser; what gains is left out."""
    figure = _frame("ΔCE, nats per token (log)", theme)
    _add_chosen(figure, found, lambda arm: arm.ce_delta, "ΔCE %{y:+.4f} nats", theme, above=0.0)
    return figure.update_yaxes(type="log", tickvals=[0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10])


def probing_figure(found: RateDistortion, theme: Theme = LIGHT, *, k: int = 1) -> go.Figure:
    """Held-out accuracy of k features on concepts, the mean over them, by bits per token."""
    figure = _frame(f"accuracy, {k} feature{'s' if k > 1 else ''}", theme)
    _add_chosen(figure, found, lambda arm: arm.probing.get(str(k)), "accuracy %{y:.3f}", theme)
    return figure


def _frame(title: str, theme: Theme) -> go.Figure:
    figure = go.Figure()
    figure.update_layout(template=template(theme), showlegend=True, margin={"l": 64, "r": 24, "t": 64, "b": 48})
    figure.update_xaxes(title_text="bits per token (log)", type="log", tickvals=[1, 2, 4, 8, 16, 32, 64, 128, 256, 512])
    return figure.update_yaxes(title_text=title)


def _style(found: RateDistortion, name: str, theme: Theme) -> dict[str, Any]:
    """SAEs solid with circles, codebooks dashed with diamonds, what was not trained in grey."""
    kinds = {arm.arm: arm.kind for arm in found.arms}
    trained = [one for one in found.names() if kinds[one] == "trained"]
    if name not in trained:
        grey = [one for one in found.names() if kinds[one] != "trained"]
        symbols = ("square", "triangle-up", "x", "cross")
        symbol = symbols[grey.index(name) % len(symbols)]
        return {"line": {"color": theme.muted, "width": 1}, "marker": {"symbol": symbol, "size": 6}}
    is_codebook = name.startswith(CODEBOOK)
    alike = [one for one in trained if one.startswith(CODEBOOK) == is_codebook]
    colour = CATEGORIES[alike.index(name) % len(CATEGORIES)]
    line = {"color": colour, "width": 2, "dash": "dash" if is_codebook else "solid"}
    return {"line": line, "marker": {"symbol": "diamond" if is_codebook else "circle", "size": 7}}


def _add(figure: go.Figure, name: str, points: Sequence[Point], style: Mapping[str, Any], told: str) -> None:
    if not points:
        return
    figure.add_scatter(
        x=[bits for bits, _, _ in points], y=[value for _, value, _ in points], mode="lines+markers", name=title(name),
        customdata=[text for _, _, text in points], legendgroup=name, **style,
        hovertemplate=f"{title(name)}<br>%{{customdata}}<br>{told} at %{{x:.1f}} bits<extra></extra>",
    )  # fmt: skip


def _add_chosen(
    figure: go.Figure,
    found: RateDistortion,
    value_of: Callable[[RateArm], float | None],
    told: str,
    theme: Theme,
    *,
    above: float | None = None,
) -> None:
    for name in found.names():
        points = [
            (arm.curve.chosen.bits, value, f"{arm.name}, {_values(arm, arm.curve.chosen.value_bits)}")
            for arm in found.of(name)
            if (value := value_of(arm)) is not None and (above is None or value > above)
        ]
        _add(figure, name, sorted(points), _style(found, name, theme), told)


def title(name: str) -> str:
    """What a reader is told that an arm is."""
    architecture, _, variant = name.partition(" ")
    known = ARCHITECTURES.get(architecture)
    return name if known is None else f"{known} {variant}".strip()


def _values(arm: RateArm, value_bits: int) -> str:
    """How values travel."""
    if len(arm.curve.points) == 1:
        return "no values"
    return f"{value_bits} bits a value" if value_bits else "each feature's mean"


def rate_page(found: RateDistortion) -> str:
    """Figures and tables as one page."""
    about, parts = found.provenance, [_rate_part(found)]
    if any(arm.ce_delta is not None for arm in found.arms):
        note = f"each with the coarsest quantiser that loses at most {CHOSEN_WITHIN} of explained variance"
        parts.append(FigurePart("cost", "What it costs the model", note, lambda t: cost_figure(found, t), 420))
    tables: list[FigurePart | TablePart] = [*parts, _matched_part(found)]
    if any(arm.probing for arm in found.arms):
        note = f"mean over {about.get('concepts')} concepts, words held out"
        tables.append(
            FigurePart("probing", "What one feature tells", note, lambda t: probing_figure(found, t), 380)
        )  # fmt: skip
    page = AnalysisPage(
        name="Rate and distortion",
        about=" · ".join((str(about.get("model", {}).get("name", "")), str(about.get("hook", "")))),
        lead=_LEAD,
        headline=[
            ("dictionaries", f"{len(found.arms)}"),
            ("text", f"{about.get('n_tokens', 0):,} tokens of {about.get('n_documents', 0):,} documents"),
        ],
        parts=[*tables, _arms_part(found)],
        command=str(about.get("command", "")),
        provenance=[(key, str(about.get(key))) for key in ("hook", "n_tokens", "ce_tokens", "seed", "commit")],
    )
    return render_analysis(page)


_LEAD = (
    "A token's code is told as its active features and their values. Features: by the cheapest of three coders (their "
    "number and then which set of so many; each on or off by its own frequency; one after the other by their "
    "frequencies), the parts of a grouped, residual or latent codebook apart. Values: by a uniform quantiser between "
    "each feature's smallest and largest value, the cells entropy coded; codebooks have none. What both ends know is "
    "not counted: the dictionary, frequencies, ranges. Frequencies are those of the same text."
)


def _rate_part(found: RateDistortion) -> FigurePart:
    note = "lines: the points that none of the same architecture beats, over sparsities and quantisers"
    return FigurePart("rate", "Explained variance by bits", note, lambda theme: rate_figure(found, theme), 480)


def _matched_part(found: RateDistortion) -> TablePart:
    rows = [
        _matched_row(found, bits, one)
        for bits in MATCHED_BITS
        for one in found.matched(bits)
        if one.explained_variance is not None or one.ce_delta is not None
    ]
    note = "EV and ΔCE between the dictionaries next to so many bits; the rest of the dictionary nearest to them."
    columns = ("bits", "architecture", "EV", "ΔCE, nats", "nearest", "its bits", "dead", *_tells(found))
    return TablePart("matched", "At matched bits", note, columns, rows, text=(0, 1, 4))


def _tells(found: RateDistortion) -> list[str]:
    """Columns of what features tell, as far as it was measured."""
    probing = ["1 feature", "5 features"] if any(arm.probing for arm in found.arms) else []
    return [*probing, *(["detection AUC"] if any(arm.detection_auc is not None for arm in found.arms) else [])]


def _matched_row(found: RateDistortion, bits: float, one: Matched) -> list[str]:
    arm = next(arm for arm in found.of(one.arm) if arm.name == one.nearest)
    told = [_written(one.explained_variance, ".4f"), _written(one.ce_delta, "+.4f"), arm.name]
    return [f"{bits:.0f}", title(one.arm), *told, f"{arm.curve.chosen.bits:.1f}", *_merits(found, arm)]


def _merits(found: RateDistortion, arm: RateArm) -> list[str]:
    told = {
        "1 feature": arm.probing.get("1"), "5 features": arm.probing.get("5"), "detection AUC": arm.detection_auc,
    }  # fmt: skip
    return [f"{arm.curve.dead_share:.1%}", *(_written(told[column], ".3f") for column in _tells(found))]


def _arms_part(found: RateDistortion) -> TablePart:
    rows = []
    for arm in found.arms:
        curve, chosen = arm.curve, arm.curve.chosen
        support = f"{curve.support.bits:.1f} ({curve.support.coder})"
        sizes = [f"{curve.d_sae:,}", f"{curve.l0:.2f}", support, _values(arm, chosen.value_bits), f"{chosen.bits:.1f}"]
        ev = [f"{curve.explained_variance:.4f}", f"{chosen.explained_variance:.4f}"]
        rows.append([arm.name, title(arm.arm), *sizes, *ev, _written(arm.ce_delta, "+.4f"), *_merits(found, arm)])
    columns = ("dictionary", "architecture", "features", "L0", "support bits", "values", "bits", "EV, exact", "EV",
               "ΔCE, nats", "dead", *_tells(found))  # fmt: skip
    return TablePart("arms", "All dictionaries", "With the chosen quantiser.", columns, rows, text=(0, 1, 4, 5))


def _written(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
