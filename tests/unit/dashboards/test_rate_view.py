"""Rate against distortion: what is drawn is what was measured, and what is compared stands at the same bits."""

import math

import pytest

from dashboards.rate_page import rate_page
from dashboards.rate_view import cost_figure, dead_figure, rate_figure, title
from interp.errors import ArtifactError
from saes.rate import SupportBits
from saes.rate_arms import RateArm, Spread, between, frontier_of, hull_of, mean_line, nearest_of, unbeaten
from saes.rate_curve import RateCurve, RatePoint
from saes.rate_results import RateDistortion, written


def arm(name, kind, points, *, exact=1.0, delta=None, label=None, seed=0, dead=0.25):
    support = SupportBits(0.0, 10.0, 12.0, 11.0)
    held = tuple(
        RatePoint(index, float(bits), bits - 10.0, 4.0 * index, ev, None) for index, (bits, ev) in enumerate(points)
    )
    curve = RateCurve(1000, 64, 1, 4.0, dead, support, exact, held)
    told = label or f"{name} k4 of 64"
    return RateArm(arm=name, name=told, kind=kind, path="runs/x", curve=curve, seed=seed, ce_delta=delta)


def spread_of(*values):
    return Spread.of(float(value) for value in values)


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
    assert [(arm.name[:7], point.bits) for arm, point in hull_of(found.of("topk"))] == [
        ("topk k4", 20), ("topk k4", 30), ("topk k8", 50), ("topk k4", 60),
    ]  # fmt: skip
    line = next(trace for trace in rate_figure(found).data if trace.name == "TopK")
    assert list(zip(line.x, line.y, strict=True)) == [(20, 0.5), (30, 0.7), (50, 0.85), (60, 0.9)]


def test_matched_bits_lie_between_neighbours(found):
    told = {one.arm: one for one in found.matched(40.0)}
    assert math.isclose(told["topk"].explained_variance.mean, 0.775)
    assert told["topk"].explained_variance.sd is None
    # The costs are those of the chosen quantisers, at 60 and 50 bits: none at 40.
    assert told["topk"].ce_delta is None
    assert told["topk"].nearest == ("topk k8 of 64",)
    assert told["topk"].nearest_bits.mean == 50
    assert told["codebook residual"].explained_variance is None
    assert math.isclose({one.arm: one for one in found.matched(55.0)}["topk"].ce_delta.mean, 0.15)


@pytest.fixture
def seeded():
    points = {0: [(20, 0.4), (40, 0.8)], 1: [(30, 0.5), (60, 0.8)]}
    arms = [arm("topk", "trained", held, exact=0.8, delta=0.2, seed=seed) for seed, held in points.items()]
    # Dearer than the first seed's, and worse: not on its frontier, though its bits are nearest to 45.
    worse = arm("topk", "trained", [(45, 0.7)], exact=0.7, delta=0.9, label="topk k9 of 64", dead=0.5)
    return RateDistortion((*arms, worse), ((1.0, 0.1), (100.0, 0.95)), {"hook": "h", "n_tokens": 1000})


def test_seeds_are_matched_each_by_itself_and_then_spread(seeded):
    (told,) = seeded.matched(36.0)
    # The lines pass 36 bits at .72 and at .56.
    assert math.isclose(told.explained_variance.mean, 0.64)
    assert math.isclose(told.explained_variance.sd, 0.08 * math.sqrt(2))
    assert told.nearest == ("topk k4 of 64",)
    assert told.nearest_bits == spread_of(40, 60)
    assert told.merits["dead_share"] == spread_of(0.25, 0.25)
    assert told.merits["detection_auc"] is None
    # One seed reaches no lower than 30 bits, the other no higher than 40.
    assert seeded.matched(25.0)[0].explained_variance is None
    assert seeded.matched(50.0)[0].explained_variance is None
    assert written(told.explained_variance, ".2f") == "0.64 ± 0.11"


def test_what_is_dearer_and_explains_less_is_not_on_the_frontier(seeded):
    own = [one for one in seeded.arms if one.seed == 0]
    assert [one.name for one in frontier_of(own)] == ["topk k4 of 64"]
    assert nearest_of(own, 45.0).name == "topk k4 of 64"


def test_what_is_left_out_of_the_figure_of_costs_beats_the_others_all_the_same():
    """The cheaper one gains, so it has no place on a logarithmic axis; what it beats is no better for that."""
    gains = arm("topk", "trained", [(20, 0.9)], exact=0.9, delta=-0.01, label="topk k4 of 64")
    beaten = arm("topk", "trained", [(40, 0.8)], exact=0.8, delta=0.1, label="topk k8 of 64")
    (trace,) = cost_figure(RateDistortion((beaten, gains), ((1.0, 0.1), (100.0, 0.95)), {})).data
    assert (trace.x, trace.mode, trace.opacity) == ((40,), "markers", 0.35)
    # Its architecture is named in the legend although nothing of it is solid.
    assert trace.showlegend
    best = arm("topk", "trained", [(60, 0.95)], exact=0.95, delta=0.05, label="topk k16 of 64")
    traces = cost_figure(RateDistortion((beaten, gains, best), ((1.0, 0.1), (100.0, 0.95)), {})).data
    assert [(trace.x, trace.opacity, trace.showlegend) for trace in traces] == [((40,), 0.35, False), ((60,), 1, True)]


def test_of_things_that_cost_the_same_the_one_that_explains_more_is_unbeaten():
    assert unbeaten([(2.0, 0.5), (2.0, 0.7), (3.0, 0.7), (4.0, 0.8), (1.0, 0.1)], lambda one: one) == (
        (1.0, 0.1), (2.0, 0.7), (4.0, 0.8),
    )  # fmt: skip


def test_a_mean_line_has_a_point_wherever_a_seed_has_one_and_all_reach():
    line = mean_line([[(1.0, 0.0), (3.0, 1.0)], [(2.0, 0.0), (4.0, 1.0)]])
    assert [bits for bits, _ in line] == [2.0, 3.0]
    assert [at.mean for _, at in line] == [0.25, 0.75]
    assert mean_line([[(1.0, 0.0)], []]) == []


def test_a_band_of_one_deviation_surrounds_the_mean_of_the_seeds(seeded):
    figure = rate_figure(seeded)
    line = next(trace for trace in figure.data if trace.name == "TopK")
    band = next(trace for trace in figure.data if trace.fill == "toself")
    n = len(line.x)
    assert tuple(band.x[:n]) == tuple(line.x) == tuple(reversed(band.x[n:]))
    for mean, up, down in zip(line.y, band.y[:n], reversed(band.y[n:]), strict=True):
        assert math.isclose((up + down) / 2, mean)
        assert up > down
    assert [trace.showlegend for trace in figure.data if trace.name == "TopK"] == [None]
    dead = next(trace for trace in dead_figure(seeded).data if trace.mode == "lines+markers")
    assert (tuple(dead.x), tuple(dead.y), tuple(dead.error_y.array)) == ((45, 50), (0.5, 0.25), (0, 0))


def test_a_value_that_a_seed_lacks_is_not_told():
    assert Spread.of([1.0, None]) is None
    assert Spread.of([]) is None
    assert Spread.of([1.0, 3.0]) == Spread(2.0, math.sqrt(2), 2)


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
    assert title("codebook residual") == "Residual codebook"
    assert lines["Residual codebook"].line.dash == "dash"
    assert lines["TopK"].line.dash == "solid"
    assert lines["PCA"].line.color not in (lines["TopK"].line.color, lines["Residual codebook"].line.color)
    assert {trace.name for trace in cost_figure(found).data} == {"TopK", "Residual codebook"}
    with_null = RateDistortion(
        (*found.arms, arm("matched random", "null", [(30, 0.1)])), found.gaussian, found.provenance
    )
    null = next(trace for trace in rate_figure(with_null).data if trace.name == "matched random")
    assert null.line.color == lines["PCA"].line.color


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
