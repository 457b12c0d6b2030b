"""What a sweep's figures and page show: every member, means over seeds, and nothing that was not measured."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from dashboards.sweep_page import render_sweep, sweep_figures, sweep_summary
from dashboards.sweep_view import cost_figure, frontier_figure, survival_figure
from interp.errors import ArtifactError
from saes.stability import BINS, Likeness, Stability
from saes.sweep_pairs import SeedPair
from saes.sweep_results import MemberScore, SweepResults


def _member(k, seed, *, line="topk 64", hook="blocks.1.hook_resid_post", **more):
    values = {
        "name": f"k{k}_s{seed}", "status": "finished", "note": None, "architecture": "topk", "k": k, "d_sae": 64,
        "lr": 1e-3, "seed": seed, "hook": hook, "line": line, "group": f"{line} k{k}",
        "explained_variance": 0.5 + 0.01 * k + 0.02 * seed, "l0": k + 0.1 * seed, "ce_delta": 1 / k,
        "dead_share": 0.0, "tokens_per_s": 1000.0, "curve": ((64.0, 0.1), (128.0, 0.4)),
    }  # fmt: skip
    return MemberScore(**(values | more))


def _likeness(value):
    return Likeness(value, value, 0.5, 0.25, tuple(int(i == int(value * BINS)) for i in range(BINS)))


def _results(members):
    high, low = _likeness(0.8), _likeness(0.1)
    pairs = (
        SeedPair("k8", ("k8_s0", "k8_s1"), Stability(100, (60, 61), high, low, high, low, high, low)),
        SeedPair("k16", ("k16_s0", "k16_s1"), None),
    )
    cost = {
        "harvest_seconds": 10.0, "steps_seconds": 5.0, "together_seconds": 15.0, "alone_seconds": 45.0,
        "saving": 2 / 3, "wall_seconds": 16.0, "n_members": 4,
    }  # fmt: skip
    origin = {
        "command": "interp sweep a.yaml", "created_utc": "now", "model": {"name": "m"}, "data": {}, "versions": {},
        "commit": None, "hardware": {}, "memory_bytes": {}, "grid": {}, "also": [],
        "base": {"tokens": 1000, "batch_size": 64, "shuffle": {"seed": 0}},
    }  # fmt: skip
    return SweepResults(tuple(members), pairs, cost, 500, 0, origin)


MEMBERS = [_member(k, seed) for k in (8, 16) for seed in (0, 1)]


def test_a_frontier_joins_means_over_seeds_in_order_of_l0_with_their_deviation():
    through, seeds = frontier_figure([*MEMBERS[2:], *MEMBERS[:2]]).data
    np.testing.assert_allclose(through.x, [8.05, 16.05])
    np.testing.assert_allclose(through.y, [0.59, 0.67])
    np.testing.assert_allclose(through.error_y.array, [0.02 / 2**0.5] * 2)
    np.testing.assert_allclose(through.error_x.array, [0.1 / 2**0.5] * 2)
    assert sorted(seeds.customdata) == ["k16_s0", "k16_s1", "k8_s0", "k8_s1"]


def test_hooks_have_panels_and_lines_names():
    members = [*MEMBERS, *(_member(8, s, hook="blocks.2.hook_mlp_out", line="wide") for s in (0, 1))]
    figure = frontier_figure(members)
    assert {trace.xaxis for trace in figure.data} == {"x", "x2"}
    assert [a.text for a in figure.layout.annotations[:2]] == ["blocks.1.hook_resid_post", "blocks.2.hook_mlp_out"]


def test_a_survival_curve_falls_from_all_to_none_where_the_cosines_are():
    first, chance = survival_figure(_results(MEMBERS).pairs).data
    assert (first.y[0], first.y[-1]) == (1, 0)
    assert [y for x, y in zip(first.x, first.y, strict=True) if x <= 0.8 + 1e-9] == [1] * 17
    assert chance.name == "chance"


def test_the_cost_of_each_alone_repeats_the_harvest():
    harvest, steps = cost_figure(_results(MEMBERS).cost).data
    assert (list(harvest.x), list(steps.x)) == ([40, 10], [5, 5])


def test_an_encoder_has_no_frontier_of_losses():
    results = _results([replace(m, ce_delta=None) for m in MEMBERS])
    assert set(sweep_figures(results)) == {"variance", "likeness", "survival", "cost", "curves"}
    assert set(sweep_figures(_results(MEMBERS))) == {"variance", "ce", "likeness", "survival", "cost", "curves"}


def test_a_member_that_failed_is_in_the_table_and_in_no_frontier():
    failed = _member(32, 0, status="failed", note="step 3: loss is nan", explained_variance=None, l0=None, curve=())
    results = _results([*MEMBERS, replace(failed, ce_delta=None, dead_share=None)])
    rows = sweep_summary(results, "x", reports={"k8_s0"})["members"]
    assert [row["report"] for row in rows] == ["runs/k8_s0/report.html", None, None, None, None]
    assert rows[-1]["note"] == "step 3: loss is nan"
    assert len(sweep_figures(results)["variance"].data[1].x) == 4


def test_the_page_holds_its_summary_as_safe_json():
    results = _results([replace(MEMBERS[0], note="</script><b>")])
    page = render_sweep(results, "<i>x</i>")
    told = re.search(r'<script type="application/json" id="summary">(.*?)</script>', page)
    assert json.loads(told[1])["members"][0]["note"] == "</script><b>"
    assert "<i>x</i>" not in page
    assert not re.search(r'(src|href)="https?://', page)


def test_results_read_back_as_they_were_written():
    results = _results(MEMBERS)
    assert SweepResults.from_json(json.loads(json.dumps(results.to_json()))) == results
    with pytest.raises(ArtifactError, match="version 1"):
        SweepResults.from_json({"schema_version": 0})
    with pytest.raises(ArtifactError, match="n_tokens"):
        SweepResults.from_json({**results.to_json(), "n_tokens": "many"})
