"""Rate against distortion: bits per token and what they buy, a line for each architecture."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from dashboards.contract import ARCHITECTURES, architecture_title
from dashboards.theme import CATEGORIES, LIGHT, Theme, template
from saes.rate_arms import (
    RateArm,
    SeedGroup,
    Spread,
    Value,
    by_seed,
    groups_of,
    hull_line,
    hull_of,
    mean_line,
    unbeaten,
)
from saes.rate_results import RateDistortion

CODEBOOK = "codebook"


def rate_figure(found: RateDistortion, theme: Theme = LIGHT) -> go.Figure:
    """Explained variance by bits per token (log): lines through the points that no other of the architecture beats.

    Lines are means over seeds with a band of one standard deviation, faint points each seed's own, grey what was not
    trained, dotted the bound of a Gaussian of the same covariance. What explains less than nothing is below the frame.
    """
    figure = _frame("explained variance", theme)
    fewest = min(point.bits for arm in found.arms for point in arm.curve.points)
    x, y = (list(axis) for axis in zip(*(at for at in found.gaussian if at[0] >= fewest / 2), strict=True))
    figure.add_scatter(
        x=x, y=y, mode="lines", name="best code of a Gaussian", line={"color": theme.ink, "width": 1, "dash": "dot"},
        hovertemplate="best code of a Gaussian: EV %{y:.4f} at %{x:.1f} bits<extra></extra>",
    )  # fmt: skip
    for name in found.names():
        style = _style(found, name, theme)
        _add_points(figure, found, name, style)
        line = mean_line([hull_line(own) for own in by_seed(found.of(name))])
        _add_band(figure, name, line, style)
        figure.add_scatter(
            x=[bits for bits, _ in line], y=[at.mean for _, at in line], mode="lines", name=title(name),
            line=style["line"], legendgroup=name, hovertemplate=_told(name, "EV %{y:.4f}"),
        )  # fmt: skip
    least = min((y for arm in found.arms for y in (point.explained_variance for point in arm.curve.points)), default=0)
    return figure.update_yaxes(range=[min(max(least, 0.0), 0.6) - 0.02, 1.01])


def _add_points(figure: go.Figure, found: RateDistortion, name: str, style: Mapping[str, Any]) -> None:
    """Every seed's dictionaries and quantisers; smaller and fainter what its own architecture beats."""
    for own in by_seed(found.of(name)):
        hull = {(arm.name, point.value_bits) for arm, point in hull_of(own)}
        every = [(arm, point) for arm in own for point in arm.curve.points]
        kept = [(arm.name, point.value_bits) in hull for arm, point in every]
        marker = {**style["marker"], "color": style["line"]["color"]}
        figure.add_scatter(
            x=[point.bits for _, point in every], y=[point.explained_variance for _, point in every], mode="markers",
            marker={**marker, "size": [5 if on else 4 for on in kept], "opacity": [0.7 if on else 0.2 for on in kept]},
            customdata=[f"{_named(arm)}, {values_told(arm, point.value_bits)}" for arm, point in every],
            hovertemplate=_told(name, "EV %{y:.4f}", "%{customdata}"), showlegend=False, legendgroup=name,
        )  # fmt: skip


def _add_band(figure: go.Figure, name: str, line: Sequence[tuple[float, Spread]], style: Mapping[str, Any]) -> None:
    """One standard deviation about the mean of the seeds."""
    held = [(bits, at.mean, at.sd) for bits, at in line if at.sd is not None]
    if not held:
        return
    up, down = [(bits, mean + sd) for bits, mean, sd in held], [(bits, mean - sd) for bits, mean, sd in held]
    around = [*up, *reversed(down)]
    figure.add_scatter(
        x=[bits for bits, _ in around], y=[value for _, value in around], mode="lines", fill="toself",
        fillcolor=style["line"]["color"], opacity=0.25, line={"width": 0}, hoverinfo="skip", showlegend=False,
        legendgroup=name,
    )  # fmt: skip


def cost_figure(found: RateDistortion, theme: Theme = LIGHT) -> go.Figure:
    """ΔCE by bits per token, both logarithmic, each dictionary with its chosen quantiser; what gains is left out."""
    figure = _frame("ΔCE, nats per token (log)", theme)
    _add_chosen(figure, found, lambda arm: arm.ce_delta, "ΔCE %{y:+.4f} nats", theme, above=0.0)
    return figure.update_yaxes(type="log", tickvals=[0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10])


def probing_figure(found: RateDistortion, theme: Theme = LIGHT, *, k: int = 1) -> go.Figure:
    """Held-out accuracy of k features on concepts, the mean over them, by bits per token."""
    figure = _frame(f"accuracy, {k} feature{'s' if k > 1 else ''}", theme)
    return _add_chosen(figure, found, lambda arm: arm.probing.get(str(k)), "accuracy %{y:.3f}", theme)


def detection_figure(found: RateDistortion, theme: Theme = LIGHT) -> go.Figure:
    """Detection AUC, the median over features, by bits per token; a half is chance."""
    figure = _frame("detection AUC, median feature", theme)
    return _add_chosen(figure, found, lambda arm: arm.detection_auc, "AUC %{y:.3f}", theme)


def dead_figure(found: RateDistortion, theme: Theme = LIGHT) -> go.Figure:
    """Share of features that fire on none of the tokens, by bits per token."""
    figure = _frame("dead share", theme)
    return _add_chosen(figure, found, lambda arm: arm.curve.dead_share, "%{y:.1%} dead", theme).update_yaxes(
        tickformat=".0%", rangemode="tozero"
    )


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


def _add_chosen(
    figure: go.Figure, found: RateDistortion, value: Value, told: str, theme: Theme, *, above: float | None = None
) -> go.Figure:
    """Dictionaries with their chosen quantisers: means over seeds, bars of one standard deviation.

    Lines join those that explain more than every cheaper one, drawn or not; the others are faint.
    """
    for name in found.names():
        style = _style(found, name, theme)
        groups = sorted(groups_of(found.of(name)), key=lambda group: group.bits)
        best = {group.name for group in unbeaten(groups, lambda group: (group.bits, group.explained_variance))}
        held = [
            (group, at)
            for group in groups
            if (at := group.spread(value)) is not None and (above is None or at.mean > above)
        ]
        sides = {on: [(group, at) for group, at in held if (group.name in best) == on] for on in (False, True)}
        for on, drawn in sides.items():
            if not drawn:
                continue
            figure.add_scatter(
                x=[group.bits for group, _ in drawn], y=[at.mean for _, at in drawn], name=title(name),
                mode="lines+markers" if on else "markers", opacity=1 if on else 0.35,
                showlegend=on or not sides[True], legendgroup=name,
                error_y={"array": [at.sd or 0.0 for _, at in drawn], "thickness": 1, "width": 2},
                customdata=[f"{group.name}, {chosen_told(group)}" for group, _ in drawn],
                hovertemplate=_told(name, told, "%{customdata}"), **style,
            )  # fmt: skip
    return figure


def _told(name: str, value: str, more: str = "") -> str:
    return f"{title(name)}<br>{f'{more}<br>' if more else ''}{value} at %{{x:.1f}} bits<extra></extra>"


def title(name: str) -> str:
    """What a reader is told that an arm is."""
    architecture, _, variant = name.partition(" ")
    return architecture_title(architecture, variant) if architecture in ARCHITECTURES else name


def _named(arm: RateArm) -> str:
    return f"{arm.name}, seed {arm.seed}"


def chosen_told(group: SeedGroup) -> str:
    """How the seeds' values travel."""
    return " or ".join(dict.fromkeys(values_told(arm, arm.curve.chosen.value_bits) for arm in group.members))


def values_told(arm: RateArm, value_bits: int) -> str:
    """How values travel."""
    if len(arm.curve.points) == 1:
        return "no values"
    return f"{value_bits} bits a value" if value_bits else "each feature's mean"
