"""Figures of probes say what the report says; the page needs nothing from outside and runs nothing that is text."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from dashboards.probe_page import probe_page
from dashboards.probe_view import (
    accuracy_figure,
    confusion_figure,
    description_figure,
    direction_figure,
    erasure_figure,
    selectivity_figure,
    sparse_figure,
    token_figure,
)
from dashboards.show import show
from dashboards.theme import DARK, LIGHT
from interp.errors import ConfigError
from probes import probe_results as results
from probes.description_length import DescriptionLength
from probes.intervals import Score
from probes.probe_results import (
    Confusion,
    DescriptionRow,
    DirectionMap,
    ErasureRow,
    ProbeReport,
    ProbeRow,
    ScoredText,
    Site,
)

HOOKS = ("blocks.0.hook_resid_pre", "blocks.0.hook_resid_post")
HOSTILE = ("</script><script>bad()</script>", " <b>&amp;", " \u2028x")


def _score(value):
    return Score(value, (value - 0.05, value + 0.04))


def _counts(**more):
    held = {"n_train": 100, "n_test": 40, "n_train_documents": 9, "n_test_documents": 4, "n_train_words": 30}
    more = {"n_test_words": 20, "n_shared_documents": 0, "n_shared_words": 10, "dropped_classes": {"X": 3}, **more}
    return {**held, "share_of_test_with_a_trained_word": 0.5, "share_of_test_13_grams_in_training": None, **more}


def _rows():
    for split in ("document", "word"):
        yield ProbeRow("pos", split, "", results.MAJORITY, _score(0.3))
        yield ProbeRow("pos", split, "", results.BAG_OF_TOKENS, _score(0.5))
        for index, hook in enumerate(HOOKS):
            yield ProbeRow("pos", split, hook, results.LOGISTIC, _score(0.7 + index / 10), c=0.1)
            yield ProbeRow("pos", split, hook, results.NONLINEAR, _score(0.72 + index / 10))
    for index, hook in enumerate(HOOKS):
        yield ProbeRow("pos", "document", hook, results.CONTROL, _score(0.5))
        yield ProbeRow("pos", "document", hook, results.SELECTIVITY, _score(0.2 + index / 10))
    for n in (1, 5):
        yield ProbeRow("pos", "document", "SAE x", results.K_SPARSE, _score(0.4 + n / 20), n_inputs=n)
        yield ProbeRow("pos", "document", "SAE x", results.RANDOM_FEATURES, _score(0.3), n_inputs=n)


@pytest.fixture
def report():
    length = DescriptionLength(100, 2, 50.0, 90.0, _score(2.0), _score(1.8), (10, 100), (10.0, 40.0))
    erased = (0, _score(0.5), _score(0.5), _score(0.6), 1.5, 1e-15, 0.1)
    return ProbeReport(
        about={"model": {"name": "a <model>", "content_hash": "0123456789abcdef"}, "command": "interp probe",
               "data": {"n_places": 140, "n_texts": 20, "n_documents": 13}},
        sites=(Site(HOOKS[0], 0), Site(HOOKS[1], 0), Site("SAE x", 0, is_dictionary=True)),
        splits={"pos": {"document": _counts(), "word": _counts()}},
        rows=tuple(_rows()),
        descriptions=tuple(DescriptionRow("pos", h, of, length) for h in HOOKS for of in ("labels", "control task")),
        confusions=(Confusion("pos", "document", HOOKS[1], ("NOUN", "VERB"), ((30, 10), (0, 5))),),
        directions=(DirectionMap(HOOKS[1], ("pos: NOUN", "pos: VERB"), ((1.0, -0.4), (-0.4, 1.0))),),
        erasures=tuple(ErasureRow("pos", HOOKS[1], method, *erased) for method in ("nothing", "LEACE")),
        texts=(ScoredText("pos", HOOKS[1], "d", ("NOUN", "VERB"), HOSTILE, ("NOUN", "", "VERB"), ((0.9, 0.1),) * 3),),
    )  # fmt: skip


def _named(figure):
    return {trace.name: trace for trace in figure.data}


def test_lines_stand_where_the_report_says_with_whiskers_to_the_interval(report):
    figure = accuracy_figure(report, "pos")
    first = next(trace for trace in figure.data if trace.name == results.LOGISTIC)
    assert list(first.x) == ["0.resid_pre", "0.resid_post"]
    np.testing.assert_allclose(first.y, [0.7, 0.8])
    np.testing.assert_allclose(np.array(first.y) + first.error_y.array, [0.74, 0.84])
    np.testing.assert_allclose(np.array(first.y) - first.error_y.arrayminus, [0.65, 0.75])
    # The control is told for new documents alone, levels in both panels; no line has the dictionary.
    assert sum(trace.name == results.CONTROL for trace in figure.data) == 1
    assert sum(trace.name == results.MAJORITY for trace in figure.data) == 2
    assert not any("SAE x" in list(trace.x) for trace in figure.data)
    np.testing.assert_allclose(_named(selectivity_figure(report))["pos"].y, [0.2, 0.3])


def test_description_lengths_are_drawn_of_labels_and_control(report):
    assert {trace.name for trace in description_figure(report).data} == {"pos", "pos, control"}


def test_confusions_are_shares_of_the_class_and_cosines_are_symmetric_about_no_colour(report):
    (heat,) = confusion_figure(report.confusions[0]).data
    np.testing.assert_allclose(heat.z, [[0.75, 0.25], [0, 1]])
    np.testing.assert_allclose(heat.customdata, [[30, 10], [0, 5]])
    (cosines,) = direction_figure(report.directions[0]).data
    assert (cosines.zmin, cosines.zmax) == (-1, 1)


def test_sparse_probes_stand_by_their_number_of_inputs(report):
    lines = _named(sparse_figure(report, "pos"))
    assert list(lines["k-sparse, SAE x"].x) == [1, 5]
    assert list(lines["random features, SAE x"].x) == [1, 5]


def test_tokens_keep_their_positions_and_the_true_class_is_marked(report):
    heat, marks = token_figure(report.texts[0]).data
    assert np.array(heat.z).shape == (2, 3)
    assert list(marks.x) == [0, 2]
    assert list(marks.y) == ["NOUN", "VERB"]


def test_a_notebook_shows_each_result_as_its_view(report):
    for result, drawn in (
        (report, accuracy_figure(report, "pos")),
        (report.confusions[0], confusion_figure(report.confusions[0])),
        (report.directions[0], direction_figure(report.directions[0])),
        (report.texts[0], token_figure(report.texts[0])),
    ):
        assert show(result).data == drawn.data
        assert show(result).layout.title.text


def test_long_tokens_have_room_below_the_classes(report):
    text = report.texts[0]
    short, long = (replace(text, tokens=("x" * n, *["y"] * (len(text.tokens) - 1))) for n in (8, 40))
    assert token_figure(long).layout.height - token_figure(short).layout.height >= 5 * 32


def test_what_was_not_measured_is_said_and_not_drawn(report):
    bare = ProbeReport(report.about, report.sites, report.splits, tuple(r for r in report.rows if r.n_inputs is None))
    for draw in (erasure_figure, lambda one: sparse_figure(one, "pos")):
        with pytest.raises(ConfigError, match="got a report without"):
            draw(bare)
    page = probe_page(bare)
    assert "Erasure" not in page.split("<script>")[0]
    assert "Sparse probes" not in page.split("<script>")[0]


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
def test_every_figure_has_both_appearances(report, theme):
    for figure in (
        accuracy_figure(report, "pos", theme),
        erasure_figure(report, theme),
        direction_figure(report.directions[0], theme),
    ):
        assert figure.layout.template.layout.font.color == theme.ink


def test_the_page_is_whole_and_safe(report):
    page = probe_page(report)
    head, told = page.split("<script>")[0], re.search(r'id="told">(.*?)</script>', page, re.DOTALL)
    assert "a &lt;model&gt;" in head
    assert "0.800 (0.750–0.840)" in head
    assert "Classes with too few examples: X 3" in head
    values = json.loads(told[1])
    assert tuple(values["texts"][0]["tokens"]) == HOSTILE
    assert "bad()</script>" not in page
    assert set(re.findall(r'data-figure="([^"]+)"', head)) == set(values["figures"])
    assert not re.search(r'<(?:script|link|img)[^>]*(?:src|href)="http', page)
