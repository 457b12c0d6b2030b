"""Lens figures: what is drawn is what was measured, and no token is markup."""

import numpy as np
import pytest

from dashboards.lens_view import divergence_figure, grid_figure, precision_figure, surprisal_figure
from dashboards.show import show
from dashboards.theme import DARK, LIGHT
from interp.lenses.divergence import LayerDivergence, LensDivergence
from interp.lenses.grid import LensGrid
from interp.lenses.scoring import Figure
from interp.lenses.table import BIGRAM, LEARNED, LEARNED_ALONE, LINEAR_HIDDEN, LensRow, LensTable

HOOKS = ("blocks.0.hook_resid_pre", "blocks.0.hook_resid_post", "blocks.1.hook_resid_post")
VOCABULARY = {0: "<|bos|>", 1: " a", 2: "\n", 3: "</b><br>", 4: " extraordinarily"}


def _grid():
    draw = np.random.default_rng(0)
    top = draw.integers(5, size=(3, 4, 2, 5))
    top[0, 0, 0, 0], top[1, 1, 0, 0], top[2, 2, 0, 0] = 3, 2, 4
    return LensGrid("linear hidden", HOOKS, (0, 1, 1, 2), top, draw.random((3, 4, 2, 5)), VOCABULARY)


def _table():
    rows = [
        LensRow(arm, mode, hook, n, (Figure(p, (p - 0.1, p + 0.2)), Figure(0.7), Figure(0.8)), Figure(2.0), 50)
        for arm, mode, p in ((LINEAR_HIDDEN, "blind", 0.3), (LEARNED, "blind", 0.4), (LEARNED, "fed", 0.6))
        for hook in HOOKS
        for n in range(3)
    ]
    rows += [
        LensRow(arm, mode, None, n, (Figure(0.2), Figure(0.3), Figure(0.4)), Figure(5.0), 50)
        for arm in (BIGRAM, LEARNED_ALONE)
        for mode in ("blind", "fed")
        for n in range(3)
    ]
    return LensTable(tuple(rows), HOOKS, 3, "greedy")


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_cells_show_the_likeliest_token_and_their_opacity_is_the_mean_probability(theme):
    grid = _grid()
    (heat,) = grid_figure(grid, theme).data
    np.testing.assert_allclose(heat.z, grid.probability[..., 0].mean(-1))
    assert (heat.zmin, heat.zmax) == (0, 1)
    assert heat.text[1][1] == "↵"
    assert heat.text[2][2] == "␣extraor…"


def test_every_distance_is_told_on_hover_with_its_likeliest_tokens():
    grid = _grid()
    (heat,) = grid_figure(grid).data
    lines = heat.customdata[2][3].split("<br>")
    assert lines[0] == "block 1, behind ↵ (position 3)"
    for n, line in enumerate(lines[1:]):
        assert line.startswith(f"N={n}: ")
        assert line.count(f"{grid.probability[2, 3, n, 0]:.2f}") >= 1


def test_tokens_are_no_markup():
    (heat,) = grid_figure(_grid()).data
    assert heat.text[0][0] == "&lt;/b&gt;&lt;br&gt;"
    assert not any("</b>" in told or "<|" in told for row in heat.customdata for told in row)


def test_repeated_tokens_keep_columns_of_their_own():
    figure = grid_figure(_grid())
    assert list(figure.layout.xaxis.tickvals) == [0, 1, 2, 3]
    assert list(figure.layout.xaxis.ticktext) == ["&lt;|bos|&gt;", "␣a", "␣a", "↵"]


@pytest.mark.parametrize(("mode", "arms"), [("blind", {LINEAR_HIDDEN, LEARNED}), ("fed", {LEARNED})])
def test_a_line_for_each_arm_of_the_mode_and_a_level_for_what_reads_no_state(mode, arms):
    figure = precision_figure(_table(), mode=mode)
    lines = {trace.name for trace in figure.data if "markers" in trace.mode}
    levels = {trace.name for trace in figure.data if trace.mode == "lines"}
    assert (lines, levels) == (arms, {BIGRAM, LEARNED_ALONE})
    assert len(figure.data) == 3 * len(lines | levels)
    assert sum(trace.showlegend for trace in figure.data) == len(lines | levels)


def test_whiskers_are_the_intervals():
    trace = next(trace for trace in precision_figure(_table()).data if trace.name == LEARNED)
    assert list(trace.y) == [0.4] * 3
    np.testing.assert_allclose(trace.error_y.array, 0.2)
    np.testing.assert_allclose(trace.error_y.arrayminus, 0.1)
    assert "0.400" not in trace.customdata[0]
    assert trace.customdata[0] == " (0.300 to 0.600)"


def test_other_quantities_are_drawn_as_well():
    assert {tuple(trace.y) for trace in precision_figure(_table(), at=10).data} == {(0.8,) * 3, (0.4,) * 2}
    assert {tuple(trace.y) for trace in surprisal_figure(_table(), mode="fed").data} == {(2.0,) * 3, (5.0,) * 2}


def test_divergences_are_drawn_by_layer_on_a_log_axis():
    layers = tuple(
        LayerDivergence(hook, 10.0 / (i + 1), (9.0 / (i + 1), 12.0 / (i + 1)), 1.0 / (i + 1), None, -9.0, (-10.0, -8.0))
        for i, hook in enumerate(HOOKS[:2])
    )
    figure = divergence_figure(LensDivergence(layers, 100, 5))
    logit, tuned = figure.data
    assert (list(logit.y), list(tuned.y)) == ([10.0, 5.0], [1.0, 0.5])
    np.testing.assert_allclose(logit.error_y.array, [2.0, 1.0])
    assert figure.layout.yaxis.type == "log"
    assert list(figure.layout.xaxis.ticktext) == ["embedding", "block 0"]
    low, high = figure.layout.yaxis.range
    assert low < np.log10(0.5) < np.log10(10) < high


def test_a_notebook_shows_lens_results_as_their_figures():
    for result, figure in ((_grid(), grid_figure(_grid())), (_table(), precision_figure(_table()))):
        assert show(result).to_plotly_json()["data"] == figure.to_plotly_json()["data"]
