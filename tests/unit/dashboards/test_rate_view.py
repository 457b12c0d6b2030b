"""Rate against distortion: what is drawn is what was measured, and what is compared stands at the same bits."""

import math

import pytest

from dashboards.rate_view import cost_figure, rate_figure, rate_page, title
from interp.errors import ArtifactError
from saes.rate import SupportBits
from saes.rate_curve import RateCurve, RatePoint
from saes.rate_results import RateArm, RateDistortion, between


def arm(name, kind, points, *, exact=1.0, delta=None, label=None):
    support = SupportBits(0.0, 10.0, 12.0, 11.0)
    held = tuple(
        RatePoint(index, float(bits), bits - 10.0, 4.0 * index, ev, None) for index, (bits, ev) in enumerate(points)
    )
    curve = RateCurve(1000, 64, 1, 4.0, 0.25, support, exact, held)
    return RateArm(arm=name, name=label or f"{name} k4 of 64", kind=kind, path="runs/x", curve=curve, ce_delta=delta)


@pytest.fixture
def found():
    arms = (
        arm("topk", "trained", [(20, 0.5), (30, 0.7), (40, 0.69), (60, 0.9)], exact=0.9, delta=0.1),
        arm("topk", "trained", [(30, 0.6), (50, 0.85)], exact=0.85, delta=0.2, label="topk k8 of 64"),
        arm("codebook residual", "trained", [(32, 0.8)], exact=0.8, delta=0.3),
        arm("PCA", "baseline", [(40, -0.2)], exact=-0.2),
    )
    return RateDistortion(arms, ((1.0, 0.1), (100.0, 0.95)), {"hook": "h", "n_tokens": 1000})


def test_a_line_goes_through_what_its_own_architecture_does_not_beat(found):
    assert [point.bits for _, point in found.hull("topk")] == [20, 30, 50, 60]
    line = next(trace for trace in rate_figure(found).data if trace.name == "TopK")
    assert list(zip(line.x, line.y, strict=True)) == [(20, 0.5), (30, 0.7), (50, 0.85), (60, 0.9)]
    assert line.customdata[2].startswith("topk k8")


def test_matched_bits_lie_between_neighbours(found):
    told = {one.arm: one for one in found.matched(40.0)}
    assert math.isclose(told["topk"].explained_variance, 0.775)
    # The costs are those of the chosen quantisers, at 60 and 50 bits: none at 40.
    assert told["topk"].ce_delta is None
    assert told["topk"].nearest == "topk k8 of 64"
    assert told["codebook residual"].explained_variance is None
    assert math.isclose({one.arm: one for one in found.matched(55.0)}["topk"].ce_delta, 0.15)


def test_between_points_and_outside_of_them():
    points = [(4.0, 1.0), (2.0, 0.0)]
    assert between(points, 3.0) == 0.5
    assert between(points, 2.0) == 0.0
    assert between(points, 4.5) is None
    assert between([], 1.0) is None
    assert between([(2.0, 7.0)], 2.0) == 7.0


def test_the_chosen_quantiser_is_the_coarsest_that_loses_little(found):
    assert [one.curve.chosen.bits for one in found.arms] == [60, 50, 32, 40]
    assert arm("topk", "trained", [(20, 0.895), (30, 0.9)], exact=0.9).curve.chosen.bits == 20


def test_codebooks_are_dashed_and_what_was_not_trained_is_grey(found):
    lines = {trace.name: trace for trace in rate_figure(found).data if trace.name}
    assert title("codebook residual") == "Codebook residual"
    assert lines["Codebook residual"].line.dash == "dash"
    assert lines["TopK"].line.dash == "solid"
    assert lines["PCA"].line.color not in (lines["TopK"].line.color, lines["Codebook residual"].line.color)
    assert {trace.name for trace in cost_figure(found).data} == {"TopK", "Codebook residual"}


def test_what_is_saved_is_read_again(found, tmp_path):
    path = tmp_path / "rate.json"
    found.save(path)
    assert RateDistortion.load(path) == found
    assert "<td>topk k8 of 64</td><td>50.0</td>" in found._repr_html_()
    path.write_text('{"kind": "rate_distortion", "schema_version": 1, "arms": 3}')
    with pytest.raises(ArtifactError, match="damaged"):
        RateDistortion.load(path)
    path.write_text("{}")
    with pytest.raises(ArtifactError, match="no rates"):
        RateDistortion.load(path)


def test_the_page_tells_every_dictionary_and_escapes_names(found):
    hostile = arm("topk", "trained", [(20, 0.5)], label="</script><b>")
    page = rate_page(RateDistortion((*found.arms, hostile), found.gaussian, found.provenance))
    assert "topk k8 of 64" in page
    assert "</script><b>" not in page
