"""Invented metrics: a healthy run raises nothing, and each trouble raises its own alert."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import interp.health
from interp.health.alert import LEVELS
from interp.health.checks import CHECKS, HealthWatch, alerts
from interp.health.expected import Expected
from interp.health.pace import silence

N = 200
K = 32.0
EXPECTED = Expected(n_steps=20 * N, d_sae=4096, k=K, has_threshold=True, clip_norm=1.0, block_tokens=65_536)
STEERED = replace(EXPECTED, k=None, l0_target=K)
FREE = replace(EXPECTED, k=None, has_threshold=False)


def healthy(n=N):
    """A run like the quickstart: it falls and levels off, harvesting comes in bursts, every step is clipped."""
    rng = np.random.default_rng(0)
    rows = []
    for place in range(n):
        fall = np.exp(-place / 25)
        harvest = 3.0 if place % 8 in (0, 3, 5) else 0.03
        seconds = harvest + 0.02 + 1.35
        rows.append(
            {
                "step": 20 * (place + 1), "n_tokens": 40_960 * (place + 1), "loss": 200 + 650 * fall + rng.normal(0, 4),
                "explained_variance": 0.84 - 0.87 * fall + rng.normal(0, 0.005), "l0": K + rng.normal(0, 0.3),
                "grad_norm": 15 + 35 * fall + rng.normal(0, 1), "dead": int(150 * (1 - fall)), "dense": 40,
                "threshold": 0.9 + 1.3 * fall, "fallbacks": 0.0, "tokens_per_s": 40_960 / seconds,
                "seconds_harvest": harvest, "seconds_shuffle": 0.02, "seconds_update": 1.35,
            }
        )  # fmt: skip
    return _plain(rows)


def _plain(rows):
    """As JSON gives them."""
    return json.loads(json.dumps(rows))


def changed(key, value, *, last=40, n=N):
    """The healthy run with other values in its last rows: value(old, how far in, 0 to 1) or a number."""
    rows = healthy(n)
    for place in range(n - last, n):
        far = (place - n + last + 1) / last
        rows[place][key] = value(rows[place][key], far) if callable(value) else value
    return _plain(rows)


TROUBLES = {
    "a rising loss": ("loss", "warning", changed("loss", lambda x, far: x * (1 + far)), EXPECTED, "2.0 times"),
    "a diverging loss": ("loss", "critical", changed("loss", lambda x, far: x * (1 + 9 * far)), EXPECTED, "diverges"),
    "variance below zero": ("variance", "critical", changed("explained_variance", -0.4, last=6), EXPECTED, "-0.400"),
    "variance far below zero, early": (
        "variance", "critical", changed("explained_variance", -40.0, last=12, n=12), EXPECTED, "is -40:",
    ),
    "variance still below zero at the end of a short run": (
        "variance", "critical", changed("explained_variance", lambda x, far: far - 1.5, last=8, n=8),
        replace(EXPECTED, n_steps=160), "ended at an explained variance of -0.500",
    ),
    "variance that fell": (
        "stuck", "warning", changed("explained_variance", lambda x, far: max(0.05, x - 2 * far), last=60),
        STEERED, "has fallen to 0.050",
    ),
    "nothing passes k": ("l0", "critical", changed("l0", 0.0), EXPECTED, "Almost nothing fires: L0 is 0"),
    "stuck variance": ("stuck", "warning", changed("explained_variance", 0.11, last=N), EXPECTED, "stuck at 0.110"),
    "a gradient spike": ("gradient", "warning", changed("grad_norm", 900.0, last=1), EXPECTED, "norm 900, 61 times"),
    "clipping that sets in": (
        "clipping", "warning", changed("grad_norm", 120.0, last=50),
        replace(EXPECTED, clip_norm=100.0), "100% of the steps, where it was 0%",
    ),
    "many dead": ("dead", "warning", changed("dead", 1229), EXPECTED, "1,229 of 4,096 features are dead (30%"),
    "mostly dead": ("dead", "critical", changed("dead", 3000), EXPECTED, "73%"),
    "dying": ("dead", "warning", changed("dead", lambda _, far: 150 + 500 * far), EXPECTED, "650 of 4,096"),
    "dense": ("dense", "warning", changed("dense", 500), EXPECTED, "500 of 4,096 features (12%)"),
    "L0 off k": ("l0", "warning", changed("l0", 21.0), EXPECTED, "L0 is 21.0 where k is 32"),
    "L0 off its target": ("l0", "warning", changed("l0", 60.0), STEERED, "L0 is 60.0 where 32 is wanted"),
    "nothing fires": ("l0", "critical", changed("l0", 0.1), FREE, "Almost nothing fires: L0 is 0.1"),
    "not sparse": ("l0", "warning", changed("l0", 900.0), FREE, "900 of 4,096"),
    "no threshold": ("threshold", "critical", changed("threshold", 0.0), EXPECTED, "collapsed to 0"),
    "a drifting threshold": (
        "drift", "warning", changed("threshold", lambda x, far: x * (1 + 2 * far)), EXPECTED, "drifts",
    ),
    "a slow machine": (
        "slow", "warning", changed("seconds_update", 30.0), EXPECTED, "of its usual",
    ),
    "harvesting": ("harvest", "note", changed("seconds_harvest", 9.0, last=N), EXPECTED, "takes 87% of the time"),
    "fallbacks": ("fallbacks", "note", changed("fallbacks", 1.0), EXPECTED, "in 80% of the steps"),
}  # fmt: skip


def _consistent(rows):
    return [
        row | {"tokens_per_s": 40_960 / (row["seconds_harvest"] + row["seconds_shuffle"] + row["seconds_update"])}
        for row in rows
    ]


@pytest.mark.parametrize("expected", [EXPECTED, STEERED, FREE, Expected()])
@pytest.mark.parametrize("n", [0, 1, 4, 10, 20, 60, N])
def test_a_healthy_run_raises_nothing(n, expected):
    assert alerts(healthy()[:n], expected) == []


@pytest.mark.parametrize("trouble", TROUBLES)
def test_each_trouble_is_told_with_its_number(trouble):
    name, level, rows, expected, words = TROUBLES[trouble]
    (alert,) = alerts(_consistent(rows), expected)
    assert (alert.name, alert.level) == (name, level)
    assert words in alert.seen
    assert 0 < alert.step <= rows[-1]["step"]


def test_a_run_that_harvests_ahead_is_told_that_it_waits():
    rows = changed("seconds_harvest", 9.0, last=N)
    (plain,) = alerts(_consistent(rows), EXPECTED)
    (ahead,) = alerts(_consistent([row | {"seconds_ahead": 8.0} for row in rows]), EXPECTED)
    assert plain.seen == "Harvesting takes 87% of the time"
    assert ahead.seen == "Waiting for activations takes 87% of the time"
    assert [("--harvest.prefetch" in one.advice) for one in (plain, ahead)] == [True, False]


def test_a_run_that_fell_below_zero_at_its_end_is_not_told_to_learn_faster():
    fell = _consistent(changed("explained_variance", -0.5, last=3, n=20))
    (told,) = [one for one in alerts(fell, replace(EXPECTED, n_steps=400)) if one.name == "variance"]
    assert "lower --schedule.lr" in told.advice


def test_every_check_has_its_trouble():
    for check in CHECKS:
        assert any(check(_consistent(rows), expected) for _, _, rows, expected, _ in TROUBLES.values()), check.__name__


def test_an_alert_knows_since_when():
    assert alerts(changed("dead", 3000), EXPECTED)[0].step == 20 * (N - 39)
    assert alerts(changed("grad_norm", 900.0, last=1), EXPECTED)[0].step == 20 * N


def test_a_loss_that_rises_because_the_code_gets_sparser_is_no_alarm():
    rows = changed("loss", lambda x, far: x * (1 + far))
    for row in rows[:-40]:
        row["l0"] = 200.0
    assert alerts(rows, replace(FREE, d_sae=None)) == []


def test_a_controller_on_its_way_is_no_alarm():
    rows = changed("l0", lambda _, far: 900 * np.exp(-4 * far), last=N)
    assert alerts(rows[: N // 2], STEERED) == []


def test_a_slow_start_is_no_alarm():
    assert alerts(changed("explained_variance", -0.1, last=15, n=15), EXPECTED) == []
    assert alerts(changed("explained_variance", lambda _, far: 5 * far - 6, last=40, n=40), EXPECTED) == []


def test_a_code_that_gets_sparser_is_no_alarm():
    assert alerts(changed("l0", lambda _, far: 3000 - 2500 * far, last=N)[:150], FREE) == []


def test_a_small_dictionary_may_have_dense_features():
    rows = [row | {"dead": 0} for row in changed("dense", 200)]
    assert alerts(rows, replace(FREE, d_sae=256)) == []


def test_the_most_urgent_comes_first():
    rows = changed("dead", 3000)
    for row in rows[-10:]:
        row["fallbacks"] = 3.0
    assert [alert.level for alert in alerts(rows, EXPECTED)] == ["critical", "note"]
    assert LEVELS == ("critical", "warning", "note")


def test_silence_is_measured_by_the_rows_own_pace():
    rows = healthy()
    assert silence(rows, age_s=50.0, resume_with="x") is None
    alert = silence(rows, age_s=240.0, resume_with="interp train c.yaml --resume")
    assert alert is not None
    assert "for 4 minutes" in alert.seen
    assert "`interp train c.yaml --resume`" in alert.advice
    slow = [row | {"seconds_update": 100.0} for row in rows]
    assert silence(slow, age_s=240.0, resume_with="x") is None
    assert silence([], age_s=240.0, resume_with="x") is None
    assert silence([], age_s=1000.0, resume_with="x") is not None


def test_a_trouble_is_told_once_and_again_when_it_gets_worse():
    watch = HealthWatch(Expected())
    rows = [row | {"dead": 0 if place < 20 else 1200 if place < 40 else 3000} for place, row in enumerate(healthy(60))]
    told = [(row["step"], alert.level) for row in rows for alert in watch.add(row, d_sae=4096)]
    assert told == [(20 * 21, "warning"), (20 * 41, "critical")]


def test_settings_named_in_advice_exist():
    from interp.cli.options import flag_of
    from saes.train_config import TrainConfig

    known = {flag_of(dotted) for dotted, _ in TrainConfig.leaves()} | {"--resume"}
    folder = Path(interp.health.__file__).parent
    named = {flag for path in folder.glob("*.py") for flag in re.findall(r"(--[a-z][\w.-]*[\w])", path.read_text())}
    assert named
    assert named <= known
