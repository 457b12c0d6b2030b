"""An SAE beside its null arms, end to end on a tiny model."""

import json
import math

import pytest

from interp.studies.feature_sample import ArmSample, SampledFeature, run_feature_sample
from interp.studies.null_arms import TRAINED, run_null_arms
from saes.config import SAEConfig
from saes.evaluation import Evaluation
from saes.training import TrainConfig
from tests.families import save_model, tiny_model
from tests.texts import tiny_texts, write_jsonl

ARMS = {TRAINED, "frozen_decoder", "random_model", "permuted_decoder", "matched_random", "shuffled_tokens"}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("null_arms")
    save_model(tiny_model("llama"), folder / "model")
    write_jsonl(folder / "texts.jsonl", tiny_texts(200))
    return TrainConfig.parse(
        {
            "model": str(folder / "model"),
            "dataset": str(folder / "texts.jsonl"),
            "hook": "blocks.1.hook_resid_post",
            "tokens": 3200,
            "batch_size": 64,
            "out": folder / "run",
            "sae": SAEConfig(d_sae=64, k=4),
            "shuffle": {"block_tokens": 320},
            "data": {"context_size": 16, "heldout_share": 0.2},
        }
    )


@pytest.fixture(scope="module")
def study(config):
    return run_null_arms(config, n_seeds=2, n_tokens=300)


def test_every_arm_has_one_finite_score_per_seed(study):
    assert set(study.scores) == ARMS
    for metrics in study.summary().values():
        assert all(len(figures["seeds"]) == 2 for figures in metrics.values())
        assert all(math.isfinite(value) for value in metrics["explained_variance"]["seeds"])


def test_the_comparison_and_the_run_s_evaluation_say_the_same(study, config):
    written = json.loads((config.out / "null_arms.json").read_text())
    assert written == study.to_json()
    evaluation = Evaluation.from_json(json.loads((config.out / "evaluation.json").read_text()))
    assert set(evaluation.null_arms) == ARMS - {TRAINED}
    for arm, score in evaluation.null_arms.items():
        assert score == study.scores[arm][0]
    assert evaluation.as_arm() == study.scores[TRAINED][0]


def test_the_trained_sae_explains_more_than_the_arms_that_keep_its_text_and_model(study):
    own = study.scores[TRAINED][0].explained_variance
    for arm in ("frozen_decoder", "permuted_decoder", "matched_random"):
        assert own > study.scores[arm][0].explained_variance


def test_a_second_call_trains_nothing_and_gives_the_same_scores(study, config):
    before = {path: path.stat().st_mtime_ns for path in config.out.rglob("sae_weights.safetensors")}
    assert run_null_arms(config, n_seeds=2, n_tokens=300) == study
    assert {path: path.stat().st_mtime_ns for path in config.out.rglob("sae_weights.safetensors")} == before


def test_a_sample_of_features_is_drawn_by_seed_in_every_arm(study, config):
    sample = run_feature_sample(config.out, seed=3, n_tokens=2000)
    assert set(sample.arms) == ARMS - {"permuted_decoder"}
    assert json.loads((config.out / "feature_sample.json").read_text()) == json.loads(json.dumps(sample.to_json()))
    again = run_feature_sample(config.out, seed=4, n_tokens=2000)
    for name, arm in sample.arms.items():
        ids = [row.feature for row in arm.features]
        assert len(set(ids)) == len(ids) == min(30, arm.n_alive)
        assert all(math.isnan(row.detection_auc) or 0 <= row.detection_auc <= 1 for row in arm.features)
        # The features are the same, only the draw is another.
        assert arm.n_alive == again.arms[name].n_alive or name in ("matched_random", "shuffled_tokens")
    assert [row.feature for row in sample.arms[TRAINED].features] != [
        row.feature for row in again.arms[TRAINED].features
    ]


def test_an_arm_without_a_measured_feature_says_so():
    row = SampledFeature(0, 0.1, ("a",), math.nan, 0.5, 1.0)
    arm = ArmSample(1, (row,))
    assert arm.quartiles("detection_auc") is None
    assert arm.quartiles("token_auc") == (0.5, 0.5, 0.5)
    assert arm.to_json()["features"][0]["detection_auc"] is None
