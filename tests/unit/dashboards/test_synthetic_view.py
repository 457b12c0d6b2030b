"""The figure of the study on known features shows every seed of every arm, and its page stands alone."""

import pytest

from dashboards.synthetic_view import PANELS, synthetic_figure, synthetic_page

FIGURES = {"mean": 0.5, "sd": 0.1, "seeds": [0.4, 0.5, 0.6]}
ARMS = ("matryoshka", "l1", "untrained")


@pytest.fixture
def result():
    names = [name for name, _ in PANELS] + ["l0"]
    arms = {arm: dict.fromkeys(names, FIGURES) for arm in ARMS}
    arms["untrained"]["hedging"] = {"mean": None, "sd": None, "seeds": [None, None, None]}
    data = {"n_features": 1024, "width": 128, "l0": 12.0, "n_trees": 3}
    config = {"data": data, "d_sae": 256, "eval_l0": 7.0, "seeds": 3, "steps": 100, "batch_size": 10}
    orders = {"f1": {"order": ["matryoshka", "l1"], "seeds_held": [2], "seeds": 3}}
    return {"arms": arms, "config": config, "published": {"l1": {"f1": 0.3}}, "orders": orders}


def test_every_seed_and_mean_is_drawn_once_per_metric_with_its_deviation(result):
    traces = synthetic_figure(result).data
    seeds = [trace for trace in traces if len(trace.x) == 3]
    means = [trace for trace in traces if trace.error_x.array is not None]
    published = [trace for trace in traces if trace.marker.symbol == "diamond-open"]
    assert len(seeds) == len(means) == len(PANELS) * len(ARMS) - 1
    assert all(tuple(trace.x) == (0.4, 0.5, 0.6) for trace in seeds)
    assert all(tuple(trace.error_x.array) == (0.1,) for trace in means)
    assert {trace.y[0] for trace in seeds} == {"Matryoshka", "L1", "untrained"}
    assert [tuple(trace.x) for trace in published] == [(0.3,)]


def test_the_page_holds_the_table_and_asks_for_nothing_elsewhere(result):
    page = synthetic_page(result)
    assert "0.500 ± 0.100" in page
    assert "not measured" in page
    assert "2 of 3" in page
    assert 'src="http' not in page
    assert "<link" not in page.split("<body>")[0]
