"""The name hierarchy: scores by hand, and the study end to end on a few steps."""

import json

import pytest
import torch
from click.testing import CliRunner

from interp.cli import cli
from interp.code import Code
from interp.errors import DataError
from interp.studies.name_hierarchy import NameHierarchyConfig, run_name_hierarchy
from interp.studies.name_hierarchy_scoring import LabelledTokens, best_feature, best_threshold, fires, score_parent
from probes.running_text import IGNORED, OTHER


def _tokens(label):
    n = len(label)
    return LabelledTokens(torch.zeros(n, 2), torch.tensor(label), torch.zeros(n, dtype=torch.int64))


# Twenty tokens of each of two words, twenty of neither, five that count as nothing.
LABELS = [0] * 20 + [1] * 20 + [OTHER] * 20 + [IGNORED] * 5


def test_an_absorbed_parent_by_hand():
    tokens = _tokens(LABELS)
    # It fires on all of the first word, none of the second, on five others and on all that counts as nothing.
    found = torch.tensor([True] * 20 + [False] * 20 + [True] * 5 + [False] * 15 + [True] * 5)
    score = score_parent("name", found, tokens, (0, 1), ("Tim", "Lily"))
    assert (score.precision, score.recall) == (20 / 25, 20 / 40)
    assert score.f1 == pytest.approx(2 * 0.8 * 0.5 / 1.3)
    assert score.word_recall == {"Tim": (1.0, 20), "Lily": (0.0, 20)}
    assert (score.n_holes, score.n_kept, score.hole_share, score.least_recall) == (1, 1, 0.5, 0.0)


def test_words_seen_too_seldom_have_no_recall_of_their_own():
    score = score_parent("name", torch.ones(25, dtype=torch.bool), _tokens([0] * 20 + [1] * 5), (0, 1), ("Tim", "Zoe"))
    assert score.word_recall == {"Tim": (1.0, 20)}
    assert score.recall == 1.0


def test_the_best_feature_is_that_of_the_best_f1_on_counted_tokens():
    label = torch.tensor(LABELS)
    acts = torch.zeros(len(LABELS), 3)
    acts[:, 0] = (label == 0).float()  # one word: precision 1, recall 1/2, F1 2/3
    acts[:, 1] = (label != OTHER).float()  # both, and what counts as nothing: F1 1
    acts[:, 2] = 1.0  # everything: precision 2/3, recall 1
    code, tokens = Code.from_dense(acts), _tokens(LABELS)
    assert best_feature(code, tokens.members((0, 1)), tokens.counted) == 1
    assert best_feature(code, tokens.members((0,)), tokens.counted) == 0
    assert torch.equal(fires(code, 0), label == 0)


def test_the_best_threshold_is_that_of_all_thresholds():
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(0, 12, (200, 3), generator=generator).float()
    member = torch.rand(200, generator=generator) < 0.2 + 0.05 * values[:, 1]
    counted = torch.rand(200, generator=generator) < 0.9
    column, threshold, f1 = best_threshold(values, member, counted)

    def score(c, t):
        found = (values[:, c] > t) & counted
        return 2 * float((found & member).sum()) / float(found.sum() + (member & counted).sum())

    assert f1 == pytest.approx(score(column, threshold))
    assert f1 == pytest.approx(max(score(c, t) for c in range(3) for t in torch.arange(-0.5, 12)))


SMALL = {
    "tokens": 6144, "seeds": 2, "d_sae": 32, "k": 4, "eval_l0": 3.0, "eval_tokens": 4000, "batch_size": 512,
    "hook": "blocks.0.hook_resid_post",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("names")
    run_name_hierarchy(NameHierarchyConfig.parse({**SMALL, "out": path}))
    return path


def test_every_arm_is_scored_at_the_same_number_of_active_latents(folder):
    study = json.loads((folder / "name_hierarchy.json").read_text())
    assert list(study["parents"]) == ["person's name", "female", "male"]
    for parent in study["parents"].values():
        assert list(parent) == ["batch_topk", "matryoshka", "frozen_decoder", "untrained", "neurons", "dense_probe"]
        for arm, metrics in parent.items():
            dictionary = arm not in ("neurons", "dense_probe")
            assert len(metrics["f1"]["seeds"]) == (2 if dictionary else 1)
            for metric in ("precision", "recall", "f1", "hole_share"):
                assert all(0 <= value <= 1 for value in metrics[metric]["seeds"])
            if dictionary:
                assert metrics["l0"]["seeds"] == pytest.approx([3.0, 3.0], abs=0.4)
        # A probe that sees everything tells names apart even here.
        assert parent["dense_probe"]["f1"]["mean"] > parent["untrained"]["f1"]["mean"]


def test_the_command_uses_finished_runs_again(folder):
    weights = sorted(folder.rglob("sae_weights.safetensors"))
    assert len(weights) == 6
    before = [path.stat().st_mtime_ns for path in weights]
    flags = [word for key, value in SMALL.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    result = CliRunner().invoke(cli, ["study", "name-hierarchy", *flags, "--out", str(folder)])
    assert result.exit_code == 0, result.output
    assert "dense probe" in result.output
    assert "±" in result.output
    assert [path.stat().st_mtime_ns for path in weights] == before


def test_names_that_the_text_lacks_are_told(tmp_path):
    names = tmp_path / "names.yaml"
    names.write_text("- {kind: hierarchy, name: n, parent: planet, children: {outer: [Zxqtune, Zxqanus]}}\n")
    config = NameHierarchyConfig.parse({**SMALL, "seeds": 1, "names": names, "out": tmp_path / "runs"})
    with pytest.raises(DataError, match="holds no planet"):
        run_name_hierarchy(config)
