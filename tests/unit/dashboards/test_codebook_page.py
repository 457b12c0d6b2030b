"""Pages of codes say what was looked at and what was not measured."""

import math
from types import MappingProxyType

import numpy as np
import plotly.io

from dashboards.codebook_page import code_steering_page, codebook_page
from dashboards.codebook_view import detection_figure
from interp.codebooks.detection import Detection
from interp.codebooks.inspected import Inspection
from interp.codebooks.inspection import BookFacts, CodeFacts
from interp.codebooks.precision import Detected, Detector
from interp.codebooks.prompt_grid import PromptGrid
from interp.codebooks.record import Book, CodeRecord
from interp.codebooks.steered import CodeSteering, SteeredOutcome

HOOK = "blocks.0.attn.hook_z"


def _inspection(aucs):
    books = (BookFacts("0.attn.0", 8, 4, 2.0),)
    found = tuple(Detection(f"0.attn.0.{i}", 0.1, auc) for i, auc in enumerate(aucs))
    codes = tuple(CodeFacts(one.unit, 3, 0.1, 0.0, (), (), ()) for one in found)
    detected = (Detected(" he", Detector("0.attn.0.1", None, None, 0), None),)
    return Inspection(
        "run", "tiny", 100, books, codes, {"0.attn.0": ()}, (), detected, found, found, {}, {}, "stories", "all",
        "the base model, tiny",
    )  # fmt: skip


def _page(result):
    ids = np.array([[[3], [4]]])
    grid = PromptGrid(("<b>", " a"), ("0.attn.0",), ids, np.full(ids.shape, 0.1))
    zero = np.zeros(6, dtype=np.int64)
    record = CodeRecord(zero, zero, zero, np.arange(6), zero, (Book(HOOK, 0, 8, np.arange(6)[:, None]),))
    return codebook_page(result, grid, record)


def test_a_page_of_codes_without_any_auc_is_written_and_says_so():
    result = _inspection([math.nan, math.nan])
    text = _page(result)
    assert text.count("not measured") >= 6
    figure = detection_figure(result)
    assert [note.text for note in figure.layout.annotations] == ["not measured"] * 2
    assert plotly.io.to_json(figure)
    assert not detection_figure(_inspection([0.5, math.nan])).layout.annotations
    # Neither codes nor neurons at all.
    assert "not measured" in _page(_inspection([]))


def test_a_page_of_codes_says_which_text_whose_neurons_and_shows_spaces():
    text = _page(_inspection([0.7]))
    assert "text of stories, which training read too" in text
    assert "of held-out" not in text
    assert "Neurons are those of the base model, tiny." in text
    assert "\u2423he" in text or "\\u2423he" in text


def test_a_page_of_steering_defines_its_scale():
    plain, steered = SteeredOutcome(0.1, 5.0, 0.0, 1.0), SteeredOutcome(0.9, 9.0, 0.2, 0.85)
    controls = (SteeredOutcome(0.1, 6.0, 0.1, 0.99), SteeredOutcome(0.2, 7.0, 0.1, 1.02))
    result = CodeSteering(
        ("0.attn.0.3",), "x", "all", "p", 10, plain, steered, controls, provenance=MappingProxyType({}), new_tokens=12,
        asked_tokens=30, asked_sets=5,
    )  # fmt: skip
    text = code_steering_page(result)
    for told in ("no intervention is 1", "0.850", "12, not 30", "2 that differ, of 5", "2.00"):
        assert told in text
    alone = CodeSteering(("0.attn.0.3",), "x", "all", "p", 10, plain, SteeredOutcome(1.0, 2.0, 0.1), ())
    assert code_steering_page(alone).count("not measured") >= 5
