"""Figures of steering show the numbers of the results, and say so where there are none."""

import numpy as np
import pytest

from dashboards.name_pronoun_view import ablation_figure as names_figure
from dashboards.name_pronoun_view import name_pronoun_page
from dashboards.planted_view import ablation_figure, patching_figure, planted_page, probe_figure
from dashboards.show import show
from dashboards.steering_page import steering_page
from dashboards.steering_view import causal_sweep_figure, dose_response_figure, trade_off_figure
from dashboards.theme import DARK
from interp.causal_sweep import CausalSweep
from interp.effects import EffectGrid, Estimate, axis_of
from interp.steering_results import ControlArm, DoseResponse, SideEffects, SteeredText

STRENGTHS = np.array([-1.0, 0.0, 1.0])


def _estimate(values):
    value = np.array(values, dtype=np.float64)
    return Estimate(value, np.stack([value - 0.1, value + 0.1]))


def _dose(*, measured: bool = True) -> DoseResponse:
    effects = np.random.default_rng(0).normal(size=(20, 3)) * np.abs(STRENGTHS)
    arm = ControlArm("matched", effects, _estimate([-2, 0, 2]), effects[:, 2], effects[:5] ** 2)
    side = SideEffects(_estimate([0.2, 0, 0.3]), _estimate([6, 5, 7]), 5.0, 100, 4)
    return DoseResponse(
        "blocks.0.hook_resid_post", "feature 3", "feature", 2.0, "logit difference", "logits", STRENGTHS,
        _estimate([-2, 0, 2]), _estimate(2.0), 0.5, 10, 5, (arm,), side if measured else None,
        (SteeredText(1.0, "a prompt", "</script>goes on"),),
    )  # fmt: skip


def test_the_line_and_the_band_are_the_results():
    result = _dose()
    figure = dose_response_figure(result)
    low, high, own = figure.data
    np.testing.assert_allclose(own.y, result.effect.value)
    assert show(result).data == figure.data
    np.testing.assert_allclose(own.error_y.array, 0.1)
    np.testing.assert_allclose([low.y, high.y], result.arms[0].band())
    assert {a.text for a in figure.layout.annotations} >= {"feature 3", "20 matched"}
    assert "length 2" in figure.layout.xaxis.title.text


def test_costs_stand_on_a_log_axis_without_strength_zero():
    figure = trade_off_figure(_dose(), DARK)
    dots, own = figure.data
    assert list(own.text) == ["-1", "+1"]
    np.testing.assert_allclose(own.x, [0.2, 0.3])
    assert len(dots.x) == 5 * 2
    assert figure.layout.xaxis.type == "log"
    assert "not measured" in trade_off_figure(_dose(measured=False)).layout.annotations[0].text


def test_a_causal_sweep_draws_every_code_in_every_outcome():
    ate = Estimate(np.arange(24.0).reshape(3, 4, 2), None)
    slope = Estimate(np.array([[1.0, 0.0], [0.0, 5.0], [2.0, 2.0]]), None)
    sweep = CausalSweep(np.arange(4.0), ("a", "b", "c"), ("y", "z"), ate, slope, np.ones((3, 2)), 10)
    figure = causal_sweep_figure(sweep, most=2)
    assert len(figure.data) == 6
    assert {t.name for t in figure.data if t.showlegend} == {"b", "c"}
    by_name = {(t.name, t.xaxis): t.y for t in figure.data}
    np.testing.assert_allclose(by_name["a", "x"], ate.value[0, :, 0])


def test_hostile_text_does_not_end_the_page():
    page = steering_page(_dose())
    assert "</script>goes on" not in page
    assert "goes on" in page


def _planted():
    grid = EffectGrid(
        (axis_of("component", ["resid_post 0", "attention 0"]), axis_of("place", ["trigger", "cue"])),
        np.array([[1.0, 2.0], [3.0, -4.0]]), None, "m", "logit difference", "logits", 10,
    )  # fmt: skip
    score = {"value": 0.8, "interval": [0.7, 0.9]}
    feature = {
        "feature": 3, "auc": score, "ablated": score, "ablated_controls": [0.1, -0.2], "p_ablated": 0.3,
        "dose": _dose().to_json(),
    }  # fmt: skip
    arm = {
        "payload_triggered": score, "payload_untriggered": score, "gap": score, "patching": grid.to_json(),
        "probe": [score, {"value": 0.6, "interval": None}], "feature": feature,
    }  # fmt: skip
    config = {"model": "embedded", "layer": 1, "seed": 0, "out": "runs/planted"}
    return {"config": config, "layer": 1, "n_pairs": 10, "arms": {"planted": arm, "twin": arm}}


def test_the_planted_rule_is_drawn_for_both_models():
    study = _planted()
    heat = patching_figure(study)
    assert len(heat.data) == 2
    assert (heat.data[0].zmin, heat.data[0].zmax) == (-4, 4)
    probe = probe_figure(study)
    assert list(probe.data[0].y) == [0.8, 0.6]
    np.testing.assert_allclose(probe.data[0].error_y.array, [0.1, 0.0])
    dots = ablation_figure(study)
    assert [len(trace.x) for trace in dots.data] == [2, 1, 2, 1]
    assert "interp study planted-rule --model embedded --layer 1" in planted_page(study)


def test_names_and_pronouns_are_drawn_with_their_matched_sets():
    held = {"value": -1.0, "interval": [-1.5, -0.5]}
    one = {"n_features": 3, "before": {"value": 5.0, "interval": None}, "change": held, "gap": held}
    study = {
        "model": "embedded", "hook": "blocks.1.hook_resid_post", "accuracy": {"train": 1.0, "test": 0.9},
        "features": [1, 2, 3], "attribution": [0.3, 0.2, 0.1], "dose": _dose().to_json(),
        "ablations": [one | {"controls": [0.0, 0.1], "p": 0.33}],
        "names": {side: {"female": ["Lily"], "male": ["Tim"]} for side in ("train", "test")},
        "config": dict.fromkeys(("hook", "names", "run")) | dict.fromkeys(("model", "dataset", "seed", "out"), "it"),
    }  # fmt: skip
    dots, own = names_figure(study).data
    assert list(dots.x) == [0.0, 0.1]
    assert own.x[0] == -1.0
    assert own.error_x.array[0] == pytest.approx(0.5)
    assert "interp study name-pronoun --model it" in name_pronoun_page(study)
