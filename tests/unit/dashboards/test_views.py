"""Figures show the numbers they were given, in colours that can be read."""

import re
from dataclasses import fields, replace

import numpy as np
import pytest

from dashboards import analysis_page, bundle, circuit_page, lens_page
from dashboards.activation_view import activation_figure
from dashboards.density_view import density_figure
from dashboards.map_view import map_figure
from dashboards.prefix_view import prefix_figure
from dashboards.theme import DARK, LABEL_GAP, LIGHT, end_labels, level_colours
from dashboards.training_view import l0_figure, loss_figure, throughput_figure
from interp.errors import ShapeError
from tests.invented_run import evaluation, invented_features, invented_layout, training_rows

PREFIXES = [4, 8, 16, 32, 64]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def statistics(rng):
    return invented_features(rng, 60, PREFIXES, n_examples=4, window=16)


def test_every_living_feature_is_in_one_bar(statistics):
    bars = density_figure(statistics.density, statistics.level).data
    assert sum(int(np.sum(bar.y)) for bar in bars) == int((statistics.density > 0).sum())
    assert [int(np.sum(bar.y)) for bar in bars] == [
        int(((statistics.level == level) & (statistics.density > 0)).sum()) for level in range(1, 6)
    ]


@pytest.mark.parametrize("density", [np.zeros(5), np.ones(3), np.array([1e-7, 1.0]), np.array([0.1])])
def test_extreme_densities_are_counted_too(density):
    assert sum(int(np.sum(bar.y)) for bar in density_figure(density).data) == int((density > 0).sum())


def test_losses_of_prefixes_are_lines_with_direct_labels(rng):
    rows = training_rows(rng, PREFIXES)
    figure = loss_figure(rows)
    assert [trace.name for trace in figure.data] == ["total", "first 4", "first 8", "first 16", "first 32", "first 64"]
    assert list(figure.data[0].y) == [row["loss"] for row in rows]
    assert {note.text for note in figure.layout.annotations} == {trace.name for trace in figure.data}
    assert figure.layout.yaxis.type == "log"
    assert "log" in figure.layout.yaxis.title.text


def test_a_loss_that_is_not_positive_has_a_linear_axis():
    assert loss_figure([{"step": 1, "loss": 0.0}, {"step": 2, "loss": 1.0}]).layout.yaxis.type != "log"


def test_rows_without_the_metric_are_left_out():
    rows = [{"step": 1, "n_tokens": 10, "l0": float("nan")}, {"step": 2, "n_tokens": 20}, {"step": 3, "l0": 4.0}]
    (line,) = l0_figure(rows).data
    assert (list(line.x), list(line.y)) == ([3], [4.0])


def test_shares_of_time_add_up_to_one(rng):
    rows = training_rows(rng, PREFIXES)
    shares = {trace.name: np.array(trace.y) for trace in throughput_figure(rows).data if trace.stackgroup}
    assert list(shares) == ["language model", "shuffle", "step"]
    assert np.allclose(sum(shares.values()), 1.0)
    last = [row["seconds_shuffle"] / (1.1 + row["seconds_shuffle"] + row["seconds_update"]) for row in rows[-5:]]
    assert min(last) <= shares["shuffle"][-1] <= max(last)


def test_rows_from_before_shuffling_was_timed_have_two_parts(rng):
    rows = [
        {key: value for key, value in row.items() if key != "seconds_shuffle"} for row in training_rows(rng, PREFIXES)
    ]
    shares = {trace.name: np.array(trace.y) for trace in throughput_figure(rows).data if trace.stackgroup}
    assert list(shares) == ["language model", "step"]
    assert np.allclose(sum(shares.values()), 1.0)
    assert not any(len(trace.y) for trace in throughput_figure([{"step": 1, "loss": 1.0}]).data)


def test_a_model_that_runs_in_bursts_does_not_make_the_pace_a_sawtooth():
    """Blocks of three intervals, harvested in the first of each: the mean over two blocks is the same throughout."""
    rows = [
        {"step": n, "n_tokens": 1000 * n, "tokens_per_s": 1000 / seconds, "seconds_harvest": seconds - 1.0,
         "seconds_update": 1.0}
        for n, seconds in enumerate([7.0, 1.0, 1.0] * 8, start=1)
    ]  # fmt: skip
    traces = {trace.name: trace for trace in throughput_figure(rows, block_tokens=3000).data}
    settled = np.array(traces["tokens/s, mean"].y)[6:]
    assert np.allclose(settled, 1000 / 3.0)
    assert list(traces["single interval"].y) == [row["tokens_per_s"] for row in rows]
    notes = " ".join(note.text for note in throughput_figure(rows, block_tokens=3000).layout.annotations)
    assert "mean of the last 5 intervals or more<br>and 6,000 tokens" in notes


def test_labels_of_small_shares_do_not_touch():
    row = {"step": 1, "n_tokens": 10, "tokens_per_s": 1.0, "seconds_harvest": 1.0, "seconds_text": 0.01}
    figure = throughput_figure([row | {"seconds_shuffle": 0.01, "seconds_update": 0.5}])
    heights = sorted(note.y for note in figure.layout.annotations if note.text in ("model", "text", "shuffle", "step"))
    assert len(heights) == 4
    assert all(note.yref == "paper" for note in figure.layout.annotations)
    assert min(np.diff(heights)) >= 0.99 * LABEL_GAP


def test_prefix_panels_hold_every_width():
    figure = prefix_figure(evaluation(PREFIXES)["prefixes"])
    assert len(figure.data) == 4
    assert all(list(trace.x) == PREFIXES for trace in figure.data)


def test_activation_bars_are_the_counts(statistics):
    feature = int(np.argmax(statistics.density))
    (bars,) = activation_figure(statistics, feature).data
    assert int(np.sum(bars.y)) == int(statistics.histogram[feature].sum())
    with pytest.raises(ShapeError, match="feature 64"):
        activation_figure(statistics, 64)


def test_the_map_has_a_point_per_placed_feature(rng, statistics):
    layout = invented_layout(rng, statistics)
    figure = map_figure(layout, statistics)
    shown = np.concatenate([trace.customdata[:, 0] for trace in figure.data])
    assert sorted(shown) == np.flatnonzero(statistics.density > 0).tolist()
    assert "keeps 21.0%" in figure.layout.annotations[0].text
    with pytest.raises(ShapeError, match="got a layout of 3 features; expected 64"):
        map_figure(replace(layout, x=np.zeros(3)), statistics)


def test_labels_of_lines_that_end_together_do_not_touch():
    figure = end_labels(loss_figure([]), ["a", "b", "c"], [0.99, 0.99, 1.0], LIGHT)
    heights = sorted(note.y for note in figure.layout.annotations)
    assert min(np.diff(heights)) > 0.07
    assert heights[-1] <= 1.0


def test_levels_run_from_general_to_specific():
    assert level_colours(5, LIGHT) == list(LIGHT.levels)
    assert level_colours(2, LIGHT) == [LIGHT.levels[0], LIGHT.levels[-1]]


def _variables(theme):
    block = bundle.read_web("base.css").split(':root[data-theme="dark"] {')
    css = block[0 if theme is LIGHT else 1].split("}")[0]
    return dict(re.findall(r"--([\w-]+): ([^;]+);", css))


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
def test_pages_and_figures_share_their_colours(theme):
    css = _variables(theme)
    plain = [field.name for field in fields(theme) if field.name not in ("name", "levels", "activation")]
    assert {name: css[name] for name in plain} == {name: getattr(theme, name) for name in plain}
    assert css["activation"].replace(" ", "") == theme.activation
    assert tuple(css[f"level-{step}"] for step in range(5)) == theme.levels


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
def test_text_can_be_read(theme):
    css = _variables(theme)
    pairs = [(ink, ground) for ink in ("ink", "muted", "accent") for ground in ("background", "panel")]
    pairs += [("ink", "chip"), ("ink", "chosen")] + [(f"on-level-{step}", f"level-{step}") for step in range(5)]
    assert {pair: round(_contrast(css[pair[0]], css[pair[1]]), 2) for pair in pairs} == pytest.approx(
        {pair: max(4.5, _contrast(css[pair[0]], css[pair[1]])) for pair in pairs}, abs=0.01
    )


def _contrast(one, other):
    """Contrast ratio of WCAG 2.1."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour):
    channels = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_tokens_are_drawn_without_ligatures_on_every_page():
    """The pages' sheets begin with base.css; the probes' page has one of its own."""
    sheets = [bundle.STYLES, bundle.WATCH_STYLES, bundle.SWEEP_STYLES, analysis_page.STYLES, circuit_page.STYLES]
    assert {names[0] for names in [*sheets, lens_page.STYLES]} == {"base.css"}
    for name, selector in (("base.css", "body"), ("probes.css", r"\.token")):
        (rule,) = re.findall(rf"^{selector} ?{{([^}}]*)}}", bundle.read_web(name), re.MULTILINE)
        assert re.search(r"font-variant-ligatures: ?none", rule)
