"""The study of architectures, end to end on a tiny model."""

import json
import math

import pytest

from dashboards.architectures_view import architectures_figure, architectures_page, probing_figure
from interp.cli import main
from interp.errors import ConfigError
from interp.studies.architectures import run_architectures
from interp.studies.architectures_results import ArchitecturesStudy, ArmRun
from interp.studies.architectures_scene import Scene
from interp.studies.architectures_settings import (
    ARMS,
    BASELINES,
    DRAWN_ONCE,
    TRAINED,
    StudySettings,
    group_of,
    rule_of,
    title_of,
)
from probes.benchmark_rows import FEATURES
from saes.baselines import fit_baseline
from saes.config import SAEConfig
from saes.evaluation import evaluate
from saes.train_config import TrainConfig
from tests.families import save_model, tiny_model
from tests.texts import tiny_texts, write_jsonl
from tests.treebanks import write_treebank

K, SEEDS = 4, 2


def _settings(folder, kind, **more):
    save_model(tiny_model(kind), folder / "model")
    write_jsonl(folder / "texts.jsonl", tiny_texts(250))
    config = TrainConfig.parse(
        {
            "model": str(folder / "model"),
            "dataset": str(folder / "texts.jsonl"),
            "hook": "blocks.1.hook_resid_post",
            "tokens": 2560,
            "batch_size": 128,
            "out": folder / "study",
            "sae": SAEConfig(d_sae=32, k=K),
            "shuffle": {"block_tokens": 640},
            "data": {"context_size": 16, "heldout_share": 0.2},
        }
    )
    return StudySettings(config, SEEDS, 300, 1500, write_treebank(folder / "treebank"), 20, **more)


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return _settings(tmp_path_factory.mktemp("architectures"), "llama")


@pytest.fixture(scope="module")
def study(settings):
    return run_architectures(settings)


def test_every_arm_has_a_score_for_every_seed(study):
    assert study.arms == ARMS
    for arm in ARMS:
        assert [run.seed for run in study.of(arm)] == ([0] if arm in DRAWN_ONCE else [0, 1])
    assert {group_of(arm) for arm in ARMS} == {"trained", "baseline", "apart", "null"}
    for run in study.runs:
        assert all(math.isfinite(value) for value in (run.explained_variance, run.l0, run.ce_delta, run.kl))
        assert (run.tokens_per_s is not None) == (run.arm in (*TRAINED, "frozen_decoder", "random_model"))
        assert run.explained_variance_interval[0] <= run.explained_variance <= run.explained_variance_interval[1]
    assert study.failed == {}


def test_every_arm_is_at_the_wanted_l0_or_is_named(study):
    for run in study.runs:
        rule = rule_of(run.arm)
        if rule == "threshold":
            assert run.calibration_l0 == pytest.approx(K, rel=0.005)
        elif rule == "exact":
            assert run.l0 == pytest.approx(K, abs=0.05)
            assert run.shift is None
        elif rule == "own":
            assert run.l0 == pytest.approx(1.0)
    far = {arm for arm in ("standard", "gated") if abs(study.summary()[arm]["l0"]["mean"] / K - 1) > 0.05}
    assert far <= set(study.off_target())
    assert "kmeans" not in study.off_target()


def test_permuting_the_decoder_changes_what_is_explained_and_not_what_fires(study):
    for own, permuted in zip(study.of("batch_topk"), study.of("permuted_decoder"), strict=True):
        assert permuted.l0 == own.l0
        assert permuted.probing == own.probing
        assert permuted.explained_variance < own.explained_variance


def test_trained_saes_beat_what_kept_all_but_the_training(study):
    mean = {arm: figures["explained_variance"]["mean"] for arm, figures in study.summary().items()}
    assert mean["batch_topk"] > max(mean[arm] for arm in ("untrained", "permuted_decoder", "matched_random"))


def test_all_concepts_are_probed_with_one_two_and_five_features(study):
    concepts = set(study.by_concept())
    parts = ("noun", "verb", "adjective", "adverb", "proper noun")
    assert concepts == {f"UD: part of speech {part}" for part in parts} | {"UD: noun number", "UD: verb tense"}
    for run in study.runs:
        assert {(one.concept, one.n_features) for one in run.probing if one.arm == FEATURES} == {
            (concept, k) for concept in concepts for k in (1, 2, 5)
        }
    means = study.references.means()
    assert means["model"]["majority"] == 0.5
    # A part of speech follows from the word alone here, of which a hook keeps much.
    assert means["model"]["dense probe"] > 0.6


def test_the_file_holds_the_study(study, settings):
    written = json.loads((settings.folder / "architectures.json").read_text())
    assert written == json.loads(json.dumps(study.to_json()))
    again = ArchitecturesStudy.from_json(written)
    assert again.runs == study.runs
    assert again.references == study.references
    assert json.dumps(again.to_json()) == json.dumps(written)
    assert ArmRun.from_json(json.loads(json.dumps(study.runs[0].to_json()))) == study.runs[0]


def test_a_second_call_does_nothing_again(study, settings):
    before = {path: path.stat().st_mtime_ns for path in settings.folder.rglob("*.safetensors")}
    scores = {path: path.stat().st_mtime_ns for path in (settings.folder / "scores").iterdir()}
    assert run_architectures(settings).runs == study.runs
    assert {path: path.stat().st_mtime_ns for path in settings.folder.rglob("*.safetensors")} == before
    assert {path: path.stat().st_mtime_ns for path in (settings.folder / "scores").iterdir()} == scores


def test_the_folder_takes_no_other_settings(study, settings):
    other = StudySettings(settings.base, SEEDS, 200, 1500, settings.concepts, 20)
    with pytest.raises(ConfigError, match=r"eval_tokens = 300; got 200"):
        run_architectures(other)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"sae": SAEConfig(architecture="topk", d_sae=32, k=4)}, "sae.architecture"),
        ({"sae": SAEConfig(d_sae=32, k=4, n_prefixes=2)}, "sae.n_prefixes"),
        ({"randomise_model": 1}, "randomise_model"),
        ({"freeze_decoder": True}, "freeze_decoder"),
        ({"hook_out": "blocks.1.hook_mlp_out"}, "hook_out"),
    ],
)
def test_what_arms_cannot_share_is_refused(settings, changes, named):
    with pytest.raises(ConfigError, match=named):
        StudySettings(settings.base.model_copy(update=changes))


def test_figures_have_a_row_for_each_arm_and_the_page_names_all(study):
    result = json.loads(json.dumps(study.to_json()))
    for figure in (architectures_figure(result), probing_figure(result)):
        assert {trace.y[0] for trace in figure.data} == {title_of(arm) for arm in ARMS}
    page = architectures_page(result)
    assert all(title_of(arm) in page for arm in ARMS)
    assert "<script src=" not in page


def test_an_encoder_s_activations_are_harvested_once_and_scored_the_same(tmp_path):
    scene = Scene(_settings(tmp_path, "bert"))
    sae = fit_baseline(BASELINES[0], scene.sample, k=K, d_sae=32, seed=0, hooks=scene.hooks).sae
    found, expected = scene.evaluate(sae), evaluate(scene.model, sae, scene.heldout, n_tokens=300)
    assert found.ce is None
    assert found == expected


def test_the_command_prints_both_tables_of_what_is_there(study, settings, capsys):
    config = settings.folder.parent / "base.yaml"
    config.write_text(settings.base.to_yaml())
    flags = ["--eval-tokens", "300", "--baseline-tokens", "1500", "--per-class", "20", "--ud", str(settings.concepts)]
    assert main(["study", "architectures", str(config), "--seeds", str(SEEDS), *flags]) == 0
    out = capsys.readouterr().out
    assert all(title_of(arm) in out for arm in ARMS)
    assert (settings.folder / "architectures.html").exists()
    assert main(["study", "architectures", str(config), "--seeds", str(SEEDS), *flags, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(study.to_json()))
