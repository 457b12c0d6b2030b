"""The study on known features, end to end on a few steps, and what it keeps."""

import json
import math

import pytest
import torch

from interp.cli import main
from interp.errors import ArtifactError, ConfigError
from interp.storage import read_json, write_json
from interp.studies.synthetic import METRICS, PUBLISHED, collect, run_one, run_synthetic
from interp.studies.synthetic_training import ARMS, SyntheticStudyConfig, make_arm
from saes.ground_truth import scored_features
from saes.synthetic_build import build_world
from saes.synthetic_config import SyntheticConfig

DATA = SyntheticConfig(
    n_features=60, width=24, l0=4.0, n_trees=3, branching=3, depth=1, child_share=0.6, group_size=3, orthogonal_steps=5
)
SMALL = SyntheticStudyConfig(
    data=DATA, d_sae=32, k=4, eval_l0=3.0, steps=60, seeds=2, batch_size=256, n_prefixes=3, eval_tokens=3000, workers=1
)
FLAGS = [
    "--data.n-features", "60", "--data.width", "24", "--data.l0", "4", "--data.n-trees", "3", "--data.branching", "3",
    "--data.depth", "1", "--d-sae", "32", "--k", "4", "--eval-l0", "3", "--steps", "5", "--seeds", "1",
    "--batch-size", "64", "--n-prefixes", "2", "--eval-tokens", "500", "--workers", "1",
]  # fmt: skip


@pytest.fixture(scope="module")
def study():
    return collect(SMALL, run_synthetic(SMALL))


def test_every_arm_and_seed_is_scored_with_finite_numbers(study):
    summary = study.summary()
    assert set(summary) == set(ARMS)
    for metrics in summary.values():
        assert set(metrics) == set(METRICS)
        assert all(math.isfinite(value) for figures in metrics.values() for value in figures["seeds"])
        assert all(len(figures["seeds"]) == 2 for figures in metrics.values())
    assert json.loads(json.dumps(study.to_json(), allow_nan=False))["study"] == "synthetic"


def test_all_arms_that_can_are_scored_at_the_l0_asked_for(study):
    # The threshold is set on 3,000 tokens and scored on as many others; L0 varies by about 2 from token to token.
    five_standard_errors = 5 * 2 * (2 / 3000) ** 0.5
    for run in study.runs:
        assert run.scores.l0 == pytest.approx(min(3.0, run.l0_positive), abs=five_standard_errors), run.arm


def test_the_oracle_holds_the_truth_and_hedges_nothing(study):
    for run in study.runs:
        if run.arm == "oracle":
            assert run.scores.mcc == pytest.approx(1.0, abs=1e-5)
            assert run.scores.hedging == pytest.approx(0.0, abs=1e-5)
            assert run.scores.uniqueness == 1


def test_trained_arms_find_more_than_null_arms(study):
    def worst(arms, metric):
        return [value for arm in arms for value in study.values(arm, metric)]

    for metric in ("f1", "mcc", "explained_variance"):
        trained, null = worst(("matryoshka", "batch_topk"), metric), worst(("frozen_decoder", "untrained"), metric)
        assert min(trained) > max(null), metric


def test_the_frozen_decoder_stays_as_drawn_and_the_oracle_takes_the_features_of_most_energy():
    world = build_world(SMALL.world_config(1))
    frozen, untrained, oracle = (make_arm(SMALL, world, arm, 1) for arm in ("frozen_decoder", "untrained", "oracle"))
    torch.testing.assert_close(frozen.W_dec.detach(), untrained.W_dec.detach())
    assert not torch.allclose(frozen.W_enc, untrained.W_enc)
    torch.testing.assert_close(oracle.W_dec.detach(), world.directions[scored_features(world, 32)])


def test_an_oracle_with_latents_to_spare_leaves_them_silent():
    config = SMALL.model_copy(update={"d_sae": 70})
    world = build_world(config.world_config(0))
    run = run_one(config, "oracle", 0)
    assert run.scores.dead_share >= 10 / 70
    assert run.scores.mcc == pytest.approx(1.0, abs=1e-5)
    assert world.n_features == 60


def test_orders_count_the_seeds_on_which_each_published_step_holds(study):
    orders = study.orders()
    assert orders["f1"]["order"] == ["matryoshka", "batch_topk", "l1"]
    assert orders["explained_variance"]["order"] == ["batch_topk", "matryoshka", "l1"]
    high, low = (study.values(arm, "f1") for arm in ("matryoshka", "batch_topk"))
    assert orders["f1"]["seeds_held"][0] == sum(a > b for a, b in zip(high, low, strict=True))
    assert set(orders) == set(PUBLISHED["l1"])


def test_a_study_is_taken_up_where_it_was_stopped(tmp_path, monkeypatch):
    tiny = SMALL.model_copy(update={"steps": 2, "seeds": 1, "eval_tokens": 200})
    begun = run_synthetic(tiny, tmp_path)
    first = [next(begun) for _ in range(3)]
    begun.close()
    done = []
    made = run_one

    def counted(config, arm, seed, folder):
        done.append(arm)
        return made(config, arm, seed, folder)

    monkeypatch.setattr("interp.studies.synthetic.run_one", counted)
    runs = list(run_synthetic(tiny, tmp_path))
    assert done == list(ARMS[3:])
    assert runs[:3] == first
    # How many at a time is no setting of a run.
    assert list(run_synthetic(tiny.model_copy(update={"workers": 3}), tmp_path)) == runs
    assert done == list(ARMS[3:])


def test_runs_of_other_settings_are_refused(tmp_path):
    tiny = SMALL.model_copy(update={"steps": 2, "seeds": 1, "eval_tokens": 200})
    next(run_synthetic(tiny, tmp_path))
    for changed in ({"steps": 3}, {"data": DATA.model_copy(update={"noise": 0.5})}):
        with pytest.raises(ConfigError, match=r"steps: got 3|data\.noise: got 0\.5"):
            next(run_synthetic(tiny.model_copy(update=changed), tmp_path))


def test_a_kept_run_of_another_version_is_refused(tmp_path):
    tiny = SMALL.model_copy(update={"steps": 2, "seeds": 1, "eval_tokens": 200})
    next(run_synthetic(tiny, tmp_path))
    path = tmp_path / "matryoshka-0.json"
    write_json(path, read_json(path) | {"schema_version": 99})
    with pytest.raises(ArtifactError, match="got version 99"):
        next(run_synthetic(tiny, tmp_path))


def test_the_command_prints_one_json_object_and_writes_the_same_with_a_page(tmp_path, capsys):
    out = tmp_path / "synthetic"
    assert main(["study", "synthetic", *FLAGS, "--json", "--out", str(out)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert set(printed["arms"]) == set(ARMS)
    assert json.loads((out / "synthetic.json").read_text()) == printed
    page = (out / "synthetic.html").read_text()
    assert "SAEs against known features" in page
    assert len(list((out / "runs").iterdir())) == len(ARMS)


def test_the_command_prints_a_table_of_all_arms_and_the_published_order(capsys):
    assert main(["study", "synthetic", *FLAGS]) == 0
    out = capsys.readouterr().out
    assert all(arm in out for arm in ARMS)
    assert "absorption" in out
    assert "batch_topk > matryoshka > l1" in out


def test_what_the_user_can_mend_is_one_line(capsys):
    for flags in (["--k", "300"], ["--data.lift", "50"], ["--data.n-trees", "1000"], ["--data.l0", "900"]):
        assert main(["study", "synthetic", *flags, "--workers", "1", "--seeds", "1"]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
