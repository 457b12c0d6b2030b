"""The figure of a planned run on more and more ranks."""

from itertools import pairwise

import pytest

from dashboards.spread_plan_view import growth_figure
from dashboards.theme import DARK
from saes.planning.accelerators import accelerator
from saes.planning.model_sizes import TYPED
from saes.planning.spread_plan import counts_from_sizes, growth
from saes.training import TrainConfig


@pytest.fixture(scope="module")
def plans():
    config = TrainConfig.load("configs/llama_70b.yaml")
    return growth(counts_from_sizes(config, TYPED[config.model]), (1, 2, 8), accelerator("h100"))


def test_totals_and_parts_are_drawn_as_planned(plans):
    figure = growth_figure(plans, DARK)
    drawn = {(trace.xaxis, trace.name): dict(zip(trace.x, trace.y, strict=True)) for trace in figure.data}
    assert drawn["x", "in all"][8] == pytest.approx(plans[2].seconds / 3600)
    assert drawn["x2", "SAE and optimiser"][2] == pytest.approx(plans[1].memory_by["SAE, gradients, optimiser"] / 1e9)
    assert set(drawn["x2", "available"].values()) == {80.0}
    # One process alone is told nothing, which a log axis cannot show.
    assert list(drawn["x3", "in all"]) == [2, 8]
    assert ("x3", "b_dec, counts") not in drawn


def test_every_line_is_named_once(plans):
    figure = growth_figure(plans)
    labels = [note.text for note in figure.layout.annotations if note.xanchor == "left"]
    assert sorted(labels) == sorted(trace.name for trace in figure.data)
    heights = sorted(note.y for note in figure.layout.annotations if note.xref == "x2")
    assert all(high > low for low, high in pairwise(heights))


def test_one_number_of_ranks_is_a_figure_too(plans):
    assert len(growth_figure(plans[:1]).data) >= 6
