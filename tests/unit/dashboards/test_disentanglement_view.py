"""Bars, heat map and spectrum say what was measured, and nothing that was not."""

import json

import numpy as np
import pytest

from dashboards.disentanglement_view import (
    disentanglement_page,
    information_figure,
    metrics_figure,
    spectrum_figure,
)
from dashboards.show import show
from dashboards.theme import DARK, LIGHT
from probes.disentanglement import INFO_M, METRICS, Factor, disentangle
from probes.disentanglement_report import DisentanglementReport


@pytest.fixture(scope="module")
def report():
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 2, (80, 2))
    factors = [Factor(name, ("no", "yes"), labels[:, i]) for i, name in enumerate(("one", "two"))]
    codes = np.hstack([labels + 0.3 * draw.standard_normal((80, 2)), draw.standard_normal((80, 12))])
    words = np.arange(80) // 2
    arms = (
        disentangle("features", codes, factors, words, ids=range(100, 114), n_halves=3),
        disentangle("features, labels shuffled", codes[:, 2:], factors, words, n_halves=3),
    )
    about = {"model": {"name": "tiny", "content_hash": "ab" * 32}, "hook": "h", "command": "interp disentangle </x>"}
    return DisentanglementReport("nouns", arms, about)


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_bars_have_the_scores_and_their_intervals(report, theme):
    figure = metrics_figure(report, theme)
    assert [bar.name for bar in figure.data] == ["features", "features, labels shuffled"]
    for bar, arm in zip(figure.data, report.arms, strict=True):
        for metric, value, above, below in zip(METRICS, bar.y, bar.error_y.array, bar.error_y.arrayminus, strict=True):
            score = arm.scores[metric]
            assert value == (score.value if score.defined else None)
            if score.interval:
                assert (value - below, value + above) == pytest.approx(score.interval)
    assert figure.data[1].y[METRICS.index(INFO_M)] is None


def test_a_score_without_an_interval_has_no_cap(report):
    """Plotly draws a missing length as a cap of no height, and leaves out what is no number."""
    (bar, _), scores = metrics_figure(report).data, report.arms[0].scores
    without = {i for i, metric in enumerate(METRICS) if scores[metric].interval is None}
    assert {METRICS[i][:3] for i in without} == {"DCI"}
    for lengths in (bar.error_y.array, bar.error_y.arrayminus):
        assert {i for i, length in enumerate(lengths) if not isinstance(length, float)} == without
        assert all(isinstance(lengths[i], str) for i in without)


def test_the_heat_map_has_the_best_codes_of_each_factor_by_their_ids(report):
    (heat,) = information_figure(report).data
    share = report.arms[0].information / report.arms[0].entropies
    assert heat.z[0] == pytest.approx(share[0])
    assert heat.customdata[0][0] == "100"
    assert len(heat.z) <= 16
    assert set(share.argmax(0) + 100) <= {int(row[0]) for row in heat.customdata}


def test_the_spectrum_falls_and_names_its_entropy(report):
    (line,) = spectrum_figure(report).data
    assert (np.diff(line.y) <= 0).all()
    assert "VNE" in line.name


def test_the_page_is_one_safe_file_that_holds_every_figure(report):
    page = disentanglement_page([report])
    summary = json.loads(page.split('id="summary">')[1].split("</script>")[0])
    assert [part["name"] for part in summary["parts"]] == [
        "metrics-nouns", "table-nouns", "information-nouns", "spectrum-nouns",
    ]  # fmt: skip
    assert summary["command"] == "interp disentangle </x>"
    assert "</x>" not in page
    assert "src=" not in page.split("<script>")[0]


def test_a_notebook_shows_it(report):
    assert len(show(report).data) == 2
    (alone,) = show(report.arms[0]).data
    assert alone.y == metrics_figure(report).data[0].y
