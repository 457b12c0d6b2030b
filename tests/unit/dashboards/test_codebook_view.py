"""Figures of codebooks show what the results hold."""

import json
from dataclasses import replace

import numpy as np
import pytest

from dashboards.codebook_view import books_figure, detection_figure, grid_figure, steering_figure, transition_figure
from dashboards.show import show
from dashboards.tokfsm_view import intervention_figure, precision_figure, tokfsm_page
from interp.codebooks.detection import Detection
from interp.codebooks.inspected import Inspection
from interp.codebooks.inspection import BookFacts
from interp.codebooks.prompt_grid import PromptGrid
from interp.codebooks.steered import CodeSteering, SteeredOutcome
from interp.codebooks.tokfsm_results import (
    ArmResult,
    DetectorPrecision,
    MachineScores,
    StateIntervention,
    TokFSMStudy,
)


@pytest.fixture
def grid():
    ids = np.array([[[3, 1], [4, 2], [3, 5]], [[0, -1], [7, -1], [0, -1]]])
    share = np.where(ids >= 0, 2.0 ** -ids.clip(0), np.nan)
    return PromptGrid(("<b>", " a", " a"), ("0.attn.0", "0.mlp.0"), ids, share)


def _inspection(aucs=(0.6, 0.8, float("nan"))):
    books = (BookFacts("0.attn.0", 8, 4, 2.0), BookFacts("0.attn.1", 8, 2, 1.0))
    codes = tuple(Detection(f"0.attn.0.{i}", 0.1, auc) for i, auc in enumerate(aucs))
    return Inspection("run", "tiny", 100, books, (), {}, (), (), codes, codes[:1], {}, {})


def test_the_grid_shows_codes_by_position_and_colours_rare_ones(grid):
    (heat,) = grid_figure(grid).data
    assert np.array(heat.text).tolist() == [["3", "4", "3"], ["0", "7", "0"]]
    np.testing.assert_allclose(heat.z, [[3, 4, 3], [0, 7, 0]])
    figure = grid_figure(grid)
    # Repeated tokens do not merge, and tokens are no markup.
    assert figure.layout.xaxis.ticktext == ("&lt;b&gt;", "␣a", "␣a")
    assert "0.attn.0.1" in heat.customdata[0][0]
    assert "-1" not in heat.customdata[1][0]


def test_use_is_told_as_counts_and_perplexity():
    active, perplexity = books_figure(_inspection()).data
    assert list(active.y) == [4, 2]
    assert list(perplexity.y) == [4.0, 2.0]


def test_detection_leaves_out_what_is_not_defined():
    codes, middle, *_ = detection_figure(_inspection()).data
    assert list(codes.x) == [0.6, 0.8]
    assert middle.x == (0.7, 0.7)


def test_transitions_and_steering_show_their_figures():
    figure = transition_figure(np.array([[0.1, 0.9], [0.5, 0.5]]), ["0.attn.0.3", "0.attn.0.4"])
    assert figure.layout.yaxis.ticktext == ("3", "4")
    outcomes = [SteeredOutcome(share, 10.0, 0.1) for share in (0.1, 0.9, 0.2)]
    steering = CodeSteering(("0.attn.0.3",), "x", "all", "p", 10, outcomes[0], outcomes[1], (outcomes[2],))
    controls, unsteered, own = steering_figure(steering).data
    assert (controls.y[0], unsteered.y[0], own.y[0]) == (0.2, 0.1, 0.9)
    assert steering.p == 0.5


def _study():
    scores = MachineScores(1.26, 0.44, 0.97, 0.99)
    one = StateIntervention("state", "every layer", 0.2, 0.1, 0.3, 0.9, (0.8, 1.1), 10)
    arms = (
        ArmResult("no codebooks", (1.179, 46.36, 96.77), scores, 1.0),
        ArmResult("attn, k=1", (float("nan"), 46.33, 96.39), scores, 1.0, 0.4, (0.95, 0.7), 100, (one,)),
    )
    return TokFSMStudy("cpu", 686, 1.248, 0.44, (1.1748, 0.4638), arms)


def test_tokfsm_figures_hold_precision_and_interventions():
    study = _study()
    codes, neurons = precision_figure(study).data
    assert (codes.y[0], neurons.y[0]) == (95.0, 70.0)
    controls, floor, own = intervention_figure(study.arms[1]).data
    assert list(controls.x) == [0.8, 1.1]
    assert (floor.x[0], own.x[0]) == (0.1, 0.2)
    assert study.arms[1].interventions[0].p == pytest.approx(1 / 3)
    rows = study.rows()
    assert rows[1][1:3] == ("1.2600 (–)", "44.00 (46.33)")
    assert rows[1][-1] == "yes"
    assert "686" in tokfsm_page(study)


def test_interventions_without_random_codes_are_drawn_and_no_bar_is_cut_off():
    (arm,) = (arm for arm in _study().arms if arm.interventions)
    bare = replace(arm, interventions=(replace(arm.interventions[0], controls=()),))
    figure = intervention_figure(bare)
    controls = json.loads(figure.to_json())["data"][0]
    assert (controls["x"], controls["y"]) == ([], [])
    for case in (bare, arm, replace(arm, interventions=arm.interventions * 3)):
        figure = intervention_figure(case)
        (left, right), (bottom, top) = figure.layout.xaxis.range, figure.layout.yaxis.range
        for trace in figure.data:
            # The lowest row has the largest number.
            assert all(top < y < bottom for y in trace.y)
            assert all(left < x < right for x in trace.x)
        assert left < 0
    assert intervention_figure(replace(arm, interventions=())).data == ()


def test_precision_by_site_stands_on_the_page_and_in_files_that_know_it(tmp_path):
    study = _study()
    told = (
        DetectorPrecision("state", "attn + mlp", 0.971, 0.705, 0.25, 100),
        DetectorPrecision("pair", "mlp", 0.4, 0.3, 0.9, 600),
    )
    study = replace(study, arms=(study.arms[0], replace(study.arms[1], precisions=told)))
    assert study.precision_rows() == [
        ("attn, k=1", "attn + mlp", "state", "97.1", "70.5", "25.0", "100"),
        ("attn, k=1", "mlp", "state and digit", "40.0", "30.0", "90.0", "600"),
    ]
    page = tokfsm_page(study)
    assert all(cell in page for row in study.precision_rows() for cell in row)
    study.save(tmp_path / "tokfsm.json")
    assert TokFSMStudy.load(tmp_path / "tokfsm.json").arms[1].precisions == told
    # A study that is older than these tables.
    old = json.loads((tmp_path / "tokfsm.json").read_text())
    for arm in old["arms"]:
        del arm["precisions"]
    (tmp_path / "old.json").write_text(json.dumps(old))
    assert TokFSMStudy.load(tmp_path / "old.json").precision_rows() == []


def test_notebooks_show_them(grid):
    for result in (grid, _inspection(), _study()):
        assert show(result).data
        assert "<table" in result._repr_html_()
