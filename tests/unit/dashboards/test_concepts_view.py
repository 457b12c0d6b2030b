"""Figures of the concept benchmarks show every arm, every seed and no more."""

import math

import pytest

from dashboards.concepts_view import concept_bars, hierarchy_figure, probing_figure
from dashboards.theme import DARK, LIGHT
from probes.benchmark_rows import DENSE, FEATURES, MAJORITY, ORACLE, RANDOM, Row, pool
from probes.intervals import Score


def _row(concept, quantity, arm, n, value):
    return Row("m", concept, quantity, arm, n, Score(value))


@pytest.fixture
def probing():
    values = {FEATURES: (0.7, 0.9), RANDOM: (0.5, 0.55)}
    seeds = []
    for shift in (0.0, 0.02):
        rows = [
            _row("a: x", "accuracy", arm, k, v + shift)
            for arm, vs in values.items()
            for k, v in zip((1, 5), vs, strict=True)
        ]
        seeds.append(
            [*rows, _row("a: x", "accuracy", DENSE, None, 0.98), _row("a: x", "accuracy", MAJORITY, None, 0.5)]
        )
    return pool(seeds)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
def test_probing_shows_lines_with_deviations_and_levels_without(probing, theme):
    traces = {trace.name: trace for trace in probing_figure(probing, theme).data}
    assert set(traces) == {FEATURES, RANDOM, DENSE, MAJORITY}
    assert list(traces[FEATURES].x) == [1, 5]
    assert list(traces[FEATURES].y) == pytest.approx([0.71, 0.91])
    assert traces[FEATURES].error_y.array == pytest.approx([math.sqrt(0.0002)] * 2)
    assert list(traces[DENSE].y) == [0.98, 0.98]


def test_bars_stand_at_the_largest_number_of_features_with_a_point_a_seed():
    seeds = [
        [
            _row("c", "repair", FEATURES, 1, 0.9),
            _row("c", "repair", FEATURES, 10, value),
            _row("c", "repair", ORACLE, None, 1.0),
            _row("d", "repair", FEATURES, 10, math.nan),
        ]
        for value in (0.2, 0.4)
    ]
    traces = concept_bars(pool(seeds), quantity="repair").data
    bars = {trace.name: trace for trace in traces if trace.type == "bar"}
    # What is not defined has no bar.
    assert list(bars[FEATURES].x) == pytest.approx([0.3])
    assert list(bars[ORACLE].x) == [1.0]
    points = [list(trace.x) for trace in traces if trace.type == "scatter"]
    assert points == [[0.2, 0.4]]


def test_the_hierarchy_has_a_mean_and_a_point_a_seed_for_each_metric():
    found = {"mean": 0.5, "sd": 0.1, "seeds": [0.4, 0.6]}
    arms = {"batch_topk": dict.fromkeys(("precision", "recall", "f1", "hole_share"), found)}
    traces = hierarchy_figure(arms).data
    assert len(traces) == 8
    assert [list(trace.x) for trace in traces[:2]] == [[0.5], [0.4, 0.6]]
