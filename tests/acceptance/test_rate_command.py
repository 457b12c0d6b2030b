"""`interp rate` on an SAE, a codebook and a baseline of the embedded model: figures, JSON and page from one run."""

import json
import math
import re

import pytest
from click.testing import CliRunner

from interp.cli import cli
from saes import load_sae

HOOK = "blocks.2.hook_resid_post"
FLAGS = ["--hook", HOOK, "--tokens", "4096", "--batch-size", "512", "--d-sae", "64", "--k", "4"]
CODEBOOK = ["--architecture", "codebook", "--sae.codebook-variant", "residual", "--sae.n-stages", "2"]


def invoke(*arguments):
    done = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rate")
    invoke("train", *FLAGS, "--architecture", "topk", "--out", folder / "topk")
    invoke("train", *FLAGS, *CODEBOOK, "--out", folder / "codebook")
    invoke("baseline", "kmeans", *FLAGS, "--sample", "2000", "--out", folder / "kmeans")
    return folder


def test_codes_of_sae_codebook_and_baseline_are_counted_alike(folder):
    page, out = folder / "page.html", folder / "rate.json"
    runs = [folder / name for name in ("topk", "codebook", "kmeans")]
    few = ["--tokens", "1000", "--ce-tokens", "300", "--value-bits", "0,4"]
    done = invoke("rate", *runs, *few, "--null-arms", "--page", page, "--out", out, "--json")
    assert json.loads(done.stdout) == json.loads(out.read_text())
    arms = json.loads(out.read_text())["arms"]
    assert [arm["kind"] for arm in arms] == ["trained", "null", "null", "trained", "null", "null", "baseline"]
    topk, codebook, kmeans = (arms[index] for index in (0, 3, 6))
    assert [point["value_bits"] for point in topk["curve"]["points"]] == [0, 4]
    assert [len(one["curve"]["points"]) for one in (codebook, kmeans)] == [1, 1]
    assert codebook["curve"]["support"]["subsets"] == pytest.approx(2 * math.log2(math.comb(32, 2)))
    assert kmeans["curve"]["points"][0]["bits"] <= 6
    assert all(arm["ce_delta"] is not None for arm in (topk, codebook, kmeans))
    # The best code of a Gaussian explains more the more bits it has.
    bound = [value for _, value in json.loads(out.read_text())["gaussian"]]
    assert bound == sorted(bound)
    assert "codebook residual k4 of 64" in page.read_text()


def test_a_trained_codebook_is_evaluated_like_an_sae_and_says_what_it_is(folder):
    done = json.loads(invoke("evaluate", folder / "codebook", "--tokens", "1000", "--json").stdout)
    assert done["architecture"] == "codebook"
    assert done["l0"] == 4
    assert load_sae(folder / "codebook" / "sae").config.codebook_variant == "residual"
    assert not (folder / "codebook" / "sae" / "cfg.json").exists()


def test_a_run_counts_once(folder):
    done = CliRunner().invoke(cli, ["rate", str(folder / "topk"), str(folder / "." / "topk")])
    assert "topk: got it twice" in str(done.exception)


def test_a_folder_in_the_place_of_the_page_is_told_before_anything_is_measured(folder):
    done = CliRunner().invoke(cli, ["rate", str(folder / "nothing"), "--page", str(folder)])
    assert f"--page: got {folder}, which is a folder" in str(done.exception)


def test_rows_are_compared_and_not_how_many_are_read_at_once(folder):
    for name, more in (("larger", ["--data.batch-tokens", "256"]), ("shorter", ["--data.context-size", "12"])):
        invoke("train", *FLAGS, *more, "--architecture", "topk", "--out", folder / name)
    few = ["--tokens", "300", "--no-ce", "--value-bits", "0", "--json"]
    found = json.loads(invoke("rate", folder / "topk", folder / "larger", *few).stdout)
    assert len(found["arms"]) == 2
    done = CliRunner().invoke(cli, ["rate", str(folder / "topk"), str(folder / "shorter"), *few])
    assert "shorter: has data.context_size 12" in str(done.exception)


def test_runs_of_other_hooks_are_refused(folder):
    other = ["--hook", "blocks.1.hook_resid_post", *FLAGS[2:]]
    invoke("train", *other, "--architecture", "topk", "--out", folder / "elsewhere")
    done = CliRunner().invoke(cli, ["rate", str(folder / "topk"), str(folder / "elsewhere")])
    assert "same activations" in str(done.exception)


def test_another_seed_trained_for_longer_is_another_dictionary(folder):
    for name, seed, tokens in (("second", 1, "4096"), ("third", 2, "8192")):
        invoke("train", *FLAGS, "--architecture", "topk", "--seed", seed, "--tokens", tokens, "--out", folder / name)
    few = ["--tokens", "300", "--no-ce", "--value-bits", "0", "--null-arms", "--json"]
    found = json.loads(invoke("rate", *(folder / name for name in ("topk", "second", "third")), *few).stdout)
    dictionaries = ["topk k4 of 64, tokens4096"] * 2 + ["topk k4 of 64, tokens8192"]
    for arm, more in (("topk", ""), ("permuted decoder", ", permuted decoder")):
        assert [one["name"] for one in found["arms"] if one["arm"] == arm] == [name + more for name in dictionaries]


def test_a_seed_whose_text_goes_by_another_name_is_a_seed_and_other_text_is_refused(folder):
    text, copied, other = (folder / f"{name}.txt" for name in ("text", "copied", "other"))
    text.write_text("\n\n".join(f"Document {n} is about the number {n * n}, and ends here." for n in range(400)))
    copied.write_bytes(text.read_bytes())
    other.write_text(text.read_text().replace("number", "digits"))
    for seed, dataset in enumerate((text, copied, other)):
        more = ["--dataset", dataset, "--seed", seed, "--device", ("cpu", "auto", "cpu")[seed]]
        invoke("train", *FLAGS, *more, "--architecture", "topk", "--out", folder / f"on_{dataset.stem}")
    few = ["--tokens", "300", "--no-ce", "--value-bits", "0", "--json"]
    found = json.loads(invoke("rate", folder / "on_text", folder / "on_copied", *few).stdout)
    assert [(arm["name"], arm["seed"]) for arm in found["arms"]] == [("topk k4 of 64", 0), ("topk k4 of 64", 1)]
    done = CliRunner().invoke(cli, ["rate", str(folder / "on_text"), str(folder / "on_other"), *few])
    assert f"on_other: has dataset {other}" in str(done.exception)


def test_what_features_tell_is_printed_of_a_codebook_of_few_bits(folder):
    out = folder / "few.json"
    few = ["--tokens", "300", "--no-ce", "--value-bits", "0", "--out", out]
    printed = invoke("rate", folder / "codebook", *few, "--probe", "--detection-tokens", "1000").stdout
    # No bits at which architectures are compared lie between its dictionaries, so this is the only table.
    assert "bits per token;" not in printed
    head, row = (re.split(r"\s{2,}", line.strip()) for line in printed.splitlines()[1:3])
    (told,) = json.loads(out.read_text())["arms"]
    values = (told["probing"]["1"], told["probing"]["5"], told["detection_auc"])
    assert head[-4:] == ["1 feature", "5 features", "detection AUC", "AUC of"]
    assert row[-4:] == [*(f"{value:.3f}" for value in values), f"{told['detection_measured']:.0%}"]


def test_what_was_not_measured_has_no_column(folder):
    printed = invoke("rate", folder / "topk", "--tokens", "300", "--no-ce", "--value-bits", "0").stdout
    assert printed.splitlines()[1].split() == ["L0", "support", "values", "bits", "EV", "ΔCE", "dead"]
