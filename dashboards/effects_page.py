"""Sweeps of interventions as one HTML file that opens offline, light or dark as the reader's system is."""

import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from plotly.offline import get_plotlyjs

from dashboards.effects_view import effects_figure, signed
from dashboards.theme import DARK, FONT, LIGHT, Theme
from interp.effects import EffectGrid
from interp.storage import write_text

_TABLE_ROWS = 12


def write_effects_page(
    grids: Mapping[str, EffectGrid], path: Path, *, title: str, told: str, prompts: Sequence[str] = ()
) -> None:
    """Write the page: a figure and a table of the strongest places for each grid, by its heading; then the prompts.

    Raises: StorageError.
    """
    write_text(path, effects_page(grids, title=title, told=told, prompts=prompts))


def effects_page(grids: Mapping[str, EffectGrid], *, title: str, told: str, prompts: Sequence[str] = ()) -> str:
    """The page as text."""
    sections = "".join(_section(index, heading, grid) for index, (heading, grid) in enumerate(grids.items()))
    figures = ",".join(f'"{theme.name}":[{_figures(grids.values(), theme)}]' for theme in (LIGHT, DARK))
    listed = "".join(f"<li>{html.escape(prompt)}</li>" for prompt in prompts)
    given = f"<h2>Prompts</h2><ol>{listed}</ol>" if prompts else ""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_style()}</style></head><body>'
        f"<h1>{html.escape(title)}</h1><p>{html.escape(told)}</p>{sections}{given}"
        f"<script>{get_plotlyjs()}</script>"
        f"<script>const FIGURES = {{{figures}}};{_DRAW}</script></body></html>\n"
    )


def _section(index: int, heading: str, grid: EffectGrid) -> str:
    means = ", ".join(f"{name} {value:+.4g}" for name, value in grid.reference.items())
    units = f" ({grid.units})" if grid.units else ""
    facts = f"{grid.outcome}{units}; {grid.n_prompts} prompts; mean outcome: {means}."
    if grid.units.startswith("share"):
        facts += f" Pairs whose own clean-corrupt difference is near zero: {grid.n_near_zero}."
    if grid.interval is None:
        facts += " No interval: the prompts are one cluster."
    axes = "".join(f"<th>{html.escape(axis.name)}</th>" for axis in grid.axes)
    rows = "".join(
        f"<tr>{''.join(f'<td>{html.escape(label)}</td>' for label in labels)}<td class=n>{signed(effect)}</td>"
        f"<td class=n>{'' if held is None else f'{signed(held[0])} to {signed(held[1])}'}</td></tr>"
        for labels, effect, held in grid.strongest(_TABLE_ROWS)
    )
    return (
        f"<section><h2>{html.escape(heading)}</h2><p class=muted>{html.escape(facts)}</p>"
        f'<div class="figure" id="figure-{index}"></div><details open><summary>Strongest</summary>'
        f"<table><thead><tr>{axes}<th class=n>effect</th><th class=n>95% interval</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></details></section>"
    )


def _figures(grids: Iterable[EffectGrid], theme: Theme) -> str:
    # Nothing that a token says may end the script element.
    return ",".join(str(effects_figure(grid, theme).to_json()).replace("<", "\\u003c") for grid in grids)


_DRAW = """
const dark = matchMedia("(prefers-color-scheme: dark)");
function draw() {
  FIGURES[dark.matches ? "dark" : "light"].forEach((figure, index) => Plotly.react(
    `figure-${index}`, figure.data, figure.layout, {displaylogo: false, displayModeBar: false, responsive: true}));
}
dark.addEventListener("change", draw);
draw();
"""


def _style() -> str:
    return (
        f":root{{color-scheme:light dark;{_colours(LIGHT)}}}"
        f"@media (prefers-color-scheme:dark){{:root{{{_colours(DARK)}}}}}"
        f"body{{font:14px/1.5 {FONT};background:var(--background);color:var(--ink);max-width:1100px;"
        "margin:24px auto;padding:0 24px;font-variant-numeric:tabular-nums}"
        "h1{font-size:20px;font-weight:600}h2{font-size:16px;font-weight:600;margin:32px 0 4px}p{max-width:80ch}"
        ".muted,summary,th{color:var(--muted)}.figure{background:var(--panel);border:1px solid var(--line);"
        "padding:8px 4px;overflow:hidden}summary{cursor:pointer;margin-top:8px}"
        "table{border-collapse:collapse}th,td{padding:2px 16px 2px 0;text-align:left;font-weight:400;"
        "border-bottom:1px solid var(--line)}.n{text-align:right}li{white-space:pre-wrap}"
    )


def _colours(theme: Theme) -> str:
    names = ("background", "panel", "ink", "muted", "line")
    return ";".join(f"--{name}:{getattr(theme, name)}" for name in names)
