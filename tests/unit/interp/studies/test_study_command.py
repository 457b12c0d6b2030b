"""`interp study`: what it prints and writes."""

import json
import math

from interp.cli import main
from interp.studies.feature_sample import ArmSample, FeatureSampleStudy, SampledFeature
from interp.studies.null_arms import TRAINED
from interp.studies.toy_training import ARMS

TINY = ["--steps", "5", "--seeds", "1", "--workers", "1", "--eval-tokens", "500"]


def test_the_toy_prints_one_json_object_and_writes_the_same(tmp_path, capsys):
    assert main(["study", "matryoshka-toy", *TINY, "--json", "--out", str(tmp_path / "toy")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert set(printed["at_l0"]["1.12"]) == set(ARMS)
    assert json.loads((tmp_path / "toy" / "toy.json").read_text()) == printed


def test_the_toy_prints_a_table_of_all_arms(capsys):
    assert main(["study", "matryoshka-toy", *TINY, "--eval-l0", "1.0"]) == 0
    out = capsys.readouterr().out
    assert all(arm in out for arm in ARMS)
    assert "with child" in out


def test_both_studies_show_examples(capsys):
    for study in ("matryoshka-toy", "null-arms"):
        assert main(["study", study, "--help"]) == 0
        out = capsys.readouterr().out
        assert f"interp study {study}" in out
        assert "--json" in out
        assert "--out" in out
        assert "--seeds" in out


def test_the_feature_sample_prints_the_draw_and_what_it_must_beat(capsys, monkeypatch):
    row = SampledFeature(7, 0.25, (" the", "\n"), 0.875, math.nan, 0.5)
    study = FeatureSampleStudy(5, 100, {TRAINED: ArmSample(40, (row,)), "frozen_decoder": ArmSample(0, ())})
    monkeypatch.setattr("interp.cli.study_features.run_feature_sample", lambda *_, **__: study)
    assert main(["study", "feature-sample", "runs/x", "--seed", "5"]) == 0
    out = capsys.readouterr().out
    assert "1 of 40 features that fire, drawn with seed 5" in out
    assert [line.split() for line in out.splitlines() if "25.000%" in line] == [
        ["7", "25.000%", "0.875", "–", "0.500", "␣the", "↵"]
    ]
    assert "not measured" in next(line for line in out.splitlines() if "frozen_decoder" in line)


def test_what_the_user_can_mend_is_one_line(capsys):
    for arguments in (
        ["study", "matryoshka-toy", "--steps", "0"],
        ["study", "matryoshka-toy", "--eval-l0", "x"],
        ["study", "matryoshka-toy", "--eval-l0", "-1"],
        ["study", "null-arms"],
        ["study", "null-arms", "--hook", "blocks.0.hook_resid_post", "--seeds", "0"],
        ["study", "feature-sample", "no/such/run"],
        ["study", "feature-sample", "no/such/run", "--seed", "-1"],
        ["study", "null-arms", "--hook", "blocks.0.hook_resid_post", "--model", "no/such/folder"],
    ):
        assert main(arguments) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
