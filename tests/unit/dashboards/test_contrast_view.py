"""What separates two sets of texts: discoveries stand out, intervals are drawn, tokens are shown as they are."""

import json
import math

import pytest

from dashboards.contrast_view import contrast_page, effects_figure, volcano_figure
from dashboards.show import show
from dashboards.theme import DARK, LIGHT
from probes.contrast import Contrast, ContrastRow, Evidence
from probes.document_activations import Context


def _row(feature, d, q, interval=None):
    return ContrastRow(feature, d, d / 2, 0.5 + d / 10, 0.5 + d / 20, 1.0, 0.5, 0.9, 0.4, q / 10, q, interval)


@pytest.fixture
def found():
    rows = (
        _row(7, 2.0, 0.001, (0.6, 0.8)),
        _row(3, -1.5, 0.01, (0.2, 0.4)),
        _row(9, 0.1, 0.9, (0.4, 0.6)),
        _row(4, math.nan, 1.0),
    )
    context = Context(3.0, 5, 1, 1, (0, 1, 2), (0.0, 3.0, 0.0))
    about = {
        "what": "features",
        "source": "runs/x",
        "model": {"name": "tiny"},
        "hook": "h",
        "command": "interp contrast",
    }
    return Contrast(
        ("a.txt", "b.txt"), (10, 12), (50, 72), "mean", 64, rows, 1e-4, (Evidence(7, (context,), ()),),
        {0: "</script>", 1: " dog", 2: "<br>"}, about,
    )  # fmt: skip


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_discoveries_stand_apart_by_their_direction(found, theme):
    points = {trace.name: list(zip(trace.x, trace.y, strict=True)) for trace in volcano_figure(found, theme).data}
    assert points == {
        "not told from chance": [(0.1, pytest.approx(0.09))],
        "more in A": [(2.0, pytest.approx(1e-4))],
        "more in B": [(-1.5, pytest.approx(1e-3))],
    }


def test_effects_are_drawn_with_their_intervals(found):
    figure = effects_figure(found)
    lines = [tuple(trace.x) for trace in figure.data if trace.mode == "lines"]
    assert lines == [(0.6, 0.8), (0.2, 0.4), (0.4, 0.6)]
    assert [trace.x[0] for trace in figure.data if trace.mode == "markers"] == pytest.approx([0.7, 0.35, 0.51])
    assert list(figure.layout.yaxis.ticktext) == ["7", "3", "9"]


def test_by_the_strongest_token_other_effects_are_drawn(found):
    by_max = Contrast(**{name: getattr(found, name) for name in found.__slots__} | {"by": "max"})
    assert volcano_figure(by_max).data[1].x == (1.0,)


def test_the_page_tells_what_was_found_and_holds_hostile_tokens(found):
    page = contrast_page(found)
    told = page.split('id="summary">')[1].split("</script>")[0]
    summary = json.loads(told)
    assert summary["headline"] == [["found", "2 of 4"], ["documents", "10 and 12"]]
    table = next(part for part in summary["parts"] if part["kind"] == "table")
    assert [row[0] for row in table["rows"]] == ["7", "3", "9"]
    assert table["leads"] == ["feature-7", None, None]
    evidence = next(part for part in summary["parts"] if part["kind"] == "evidence")
    assert evidence["features"][0]["contexts"][0]["tokens"][0] == [0, "</script>"]
    assert "<br>" not in told


def test_a_notebook_shows_it(found):
    assert len(show(found).data) == 3
