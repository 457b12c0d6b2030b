"""The toy's figure shows every seed of every arm."""

from dashboards.toy_view import TOY_METRICS, toy_figure


def test_every_seed_and_mean_is_drawn_once_per_metric():
    figures = {"mean": 0.5, "sd": 0.1, "seeds": [0.4, 0.5, 0.6]}
    arms = {arm: {metric: figures for metric, _ in TOY_METRICS} for arm in ("l1", "matryoshka", "untrained")}
    traces = toy_figure(arms).data
    assert len(traces) == 2 * len(TOY_METRICS) * 3
    seeds = [trace for trace in traces if len(trace.x) == 3]
    assert all(tuple(trace.x) == (0.4, 0.5, 0.6) for trace in seeds)
    assert {trace.y[0] for trace in seeds} == {"L1", "Matryoshka", "untrained"}
