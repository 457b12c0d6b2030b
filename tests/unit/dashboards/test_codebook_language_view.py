"""Figures of codebooks in a language model show what the study holds."""

import math
from dataclasses import replace

from dashboards.codebook_language_view import codebook_language_page, detection_figure, loss_figure, steering_figure
from dashboards.show import show
from tests.unit.interp.studies.test_codebook_language import study


def test_every_model_has_its_loss_and_its_interval():
    base, plain, codes = loss_figure(study()).data
    assert [list(trace.x) for trace in (base, plain, codes)] == [[1.5]] * 3
    assert math.isclose(codes.error_x.array[0], 0.1)
    assert len({trace.marker.color for trace in (base, plain, codes)}) == 3


def test_units_without_an_auc_are_left_out():
    codes, middle, *_ = detection_figure(study()).data
    assert list(codes.x) == [0.8]
    assert middle.x == (0.8, 0.8)


def test_steering_is_drawn_beside_its_controls():
    controls, without, steered = steering_figure(study()).data
    assert [round(x) for x in controls.x] == [10, 95, 20]
    assert list(without.x) == [10.0]
    assert list(steered.x) == [90.0]
    assert "p 0.500" in steered.hovertemplate
    assert len(show(study()).data) == 3


def test_words_without_codes_are_told_with_steering_and_without():
    for one, is_drawn in ((study(), True), (replace(study(), steerings=()), False)):
        page = codebook_language_page(one, {})
        assert "no code found (attn, k=8)" in page
        assert ("Every code of a word, active while" in page) is is_drawn
    assert "no code found" not in codebook_language_page(replace(study(), without_codes=()), {})
