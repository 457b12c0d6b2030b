"""Where the time of a run went: rows of metrics.jsonl -> seconds per million tokens, part by part."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from dashboards.theme import LIGHT, Theme, end_labels, template

Rows = Sequence[Mapping[str, float]]
MOST_BARS = 40
PARTS = ("language model", "text", "shuffle", "step")
"""From the bottom upward. Text is reading, tokenizing and packing, or waiting for the thread that does it."""
_LEVELS = {"language model": 3, "shuffle": 4, "step": 1}
_WORDS = {"language model": "the language model", "text": "text", "shuffle": "shuffling", "step": "the steps"}
_SHOWN_FROM = 0.005


def parts_of(row: Mapping[str, float]) -> dict[str, float]:
    """Seconds of a row by part; older rows do not tell text, or shuffling, from the rest of harvesting."""
    text = min(row.get("seconds_text", 0.0), row.get("seconds_harvest", 0.0))
    found = (row.get("seconds_harvest", 0.0) - text, text, row.get("seconds_shuffle", 0.0))
    return dict(zip(PARTS, (*found, row.get("seconds_update", 0.0)), strict=True))


def time_in_words(rows: Rows) -> str:
    """Who takes how much of the time, the largest share first."""
    totals = _summed(rows)
    everything = sum(totals.values())
    if everything <= 0:
        return "Not measured."
    ahead = sum(row.get("seconds_ahead", 0.0) for row in rows)
    words = _WORDS | ({"language model": "waiting for activations"} if ahead else {})
    parts = sorted(totals.items(), key=lambda item: -item[1])
    first, *rest = [(words[name], value / everything) for name, value in parts if value >= _SHOWN_FROM * everything]
    verb = "take" if first[0] == _WORDS["step"] else "takes"
    told = f"{first[0][:1].upper()}{first[0][1:]} {verb} {first[1]:.0%} of the time"
    told += "".join(f", {name} {share:.0%}" for name, share in rest)
    return told + (f"; activations were made beside it during {min(1.0, ahead / everything):.0%}." if ahead else ".")


def timeline_figure(rows: Rows, theme: Theme = LIGHT, *, block_tokens: int = 0) -> go.Figure:
    """Bars over the training tokens, as high as a million of them took, stacked by part.

    A bar holds at least two blocks of `block_tokens`: the model runs once a block.
    """
    timed = [row for row in rows if sum(parts_of(row).values()) > 0 and row.get("tokens_per_s", 0) > 0]
    bars = _bars(timed, max(2 * block_tokens, _tokens(timed) / MOST_BARS))
    figure = go.Figure(layout={"template": template(theme)})
    shown = [name for name in PARTS if any(parts[name] > 0 for _, _, parts in bars)]
    heights, below = [], 0.0
    for name in shown:
        y = [parts[name] * 1e6 / n for _, n, parts in bars]
        figure.add_trace(_bar(bars, name, y, theme))
        heights.append(below + y[-1] / 2)
        below += y[-1]
    most = max((sum(parts.values()) * 1e6 / n for _, n, parts in bars), default=1.0)
    figure.update_layout(barmode="stack", margin={"r": 88, "t": 44}, bargap=0)
    figure.update_xaxes(title_text="training tokens")
    figure.update_yaxes(title_text="seconds per million tokens", range=[0, 1.05 * most])
    if shown:
        scaled = [height / (1.05 * most) for height in heights]
        end_labels(figure, [_written(timed, name) for name in shown], scaled, theme)
        first, _, rest = time_in_words(timed).partition(", ")
        figure.add_annotation(
            x=0, y=1, xref="paper", yref="paper", xanchor="left", yanchor="bottom", yshift=6, align="left",
            text=f"{first}{',<br>' if rest else ''}{rest}", font={"color": theme.ink, "size": 12}, showarrow=False,
        )  # fmt: skip
    return figure


Bar = tuple[float, float, dict[str, float]]
"""Tokens at its end, tokens in it, seconds by part."""


def _bars(rows: Rows, least: float) -> list[Bar]:
    found: list[Bar] = []
    end, held, some = 0.0, 0.0, []
    for row in rows:
        some.append(row)
        held += _tokens([row])
        end += _tokens([row])
        if held >= least:
            found.append((end, held, _summed(some)))
            held, some = 0.0, []
    # What is left at the end is too little for a bar of its own, unless it is all there is.
    return found or ([(end, held, _summed(some))] if some else [])


def _bar(bars: Sequence[Bar], name: str, y: list[float], theme: Theme) -> go.Bar:
    told = [f"{parts[name]:.3g} s, {parts[name] / sum(parts.values()):.1%}" for _, _, parts in bars]
    return go.Bar(
        x=[end - n / 2 for end, n, _ in bars], width=[n for _, n, _ in bars], y=y, name=name, customdata=told,
        marker={"color": part_colour(name, theme), "line": {"width": 0}},
        hovertemplate=f"{name}: %{{y:.4g}} s per million tokens<br>%{{customdata}} of the bar's time<extra></extra>",
    )  # fmt: skip


def _written(rows: Rows, name: str) -> str:
    totals = _summed(rows)
    return f"{name.removeprefix('language ')} {totals[name] / sum(totals.values()):.0%}"


def _summed(rows: Rows) -> dict[str, float]:
    each = [parts_of(row) for row in rows]
    return {name: sum(parts[name] for parts in each) for name in PARTS}


def _tokens(rows: Rows) -> float:
    return sum(row["tokens_per_s"] * sum(parts_of(row).values()) for row in rows)


def part_colour(name: str, theme: Theme) -> str:
    """Colour of a part of the time, the same in every figure."""
    return theme.levels[_LEVELS[name]] if name in _LEVELS else theme.muted
