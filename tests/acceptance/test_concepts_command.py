"""`interp concepts` on two seeds of a small SAE: figures with error bars, arms beside, errors in one line."""

import json

import pytest
from click.testing import CliRunner

from interp.cli import cli, main
from probes.concept_files import save_concepts
from probes.concepts import ConceptSets, EntitySet, Example, ExampleSet

HOOK = "blocks.0.hook_resid_post"
WORDS = {
    "animal": ["dog", "cat", "bird", "bear", "frog", "horse"],
    "thing": ["ball", "box", "car", "hat", "book", "door"],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("concepts")
    for seed, k in ((0, 4), (1, 4), (2, 5)):
        flags = ["--hook", HOOK, "--tokens", "4096", "--batch-size", "512", "--d-sae", "32", "--k", str(k)]
        done = CliRunner().invoke(cli, ["train", *flags, "--seed", str(seed), "--out", str(folder / f"seed_{seed}")])
        assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="module")
def concepts_file(runs):
    slots = {"train": ("They saw the", "He liked the"), "test": ("She found the", "We have the")}
    examples = tuple(
        Example(text=f"{slot} {word}", word=word, labels={"kind": kind}, split=side)
        for kind, words in WORDS.items()
        for index, word in enumerate(words)
        for side in (("train", "test")[index % 2],)
        for slot in slots[side]
    )
    nouns = ExampleSet(kind="examples", name="nouns", attributes={"kind": tuple(WORDS)}, examples=examples)
    entities = EntitySet.parse(
        {
            "kind": "entities",
            "name": "things",
            "entities": {word: {"kind": kind} for kind, words in WORDS.items() for word in words},
            "templates": {"kind": ["They saw the %s"]},
        }
    )
    path = runs / "concepts.jsonl"
    save_concepts(path, ConceptSets(concepts=(nouns, entities)))
    return path


def test_seeds_become_error_bars_and_arms_stand_beside(runs, concepts_file):
    out = runs / "figures" / "concepts.json"
    arguments = [str(runs / "seed_0"), str(runs / "seed_1"), "--concepts", str(concepts_file), "--tokens", "500"]
    result = CliRunner().invoke(cli, ["concepts", *arguments, "--out", str(out), "--json"])
    assert result.exit_code == 0, result.output
    study = json.loads(out.read_text())
    assert json.loads(result.stdout) == study
    rows = study["arms"]["features"]["rows"]
    probing = {(row["arm"], row["n_features"]): row for row in rows if row["measure"] == "sparse probing"}
    assert len(probing["features", 1]["seeds"]) == 2
    assert probing["features", 1]["sd"] is not None
    assert probing["dense probe", None]["sd"] is None
    assert probing["dense probe", None]["mean"] > 0.6
    # The bundled measures that these concepts allow.
    assert {row["measure"] for row in rows} >= {"sparse probing", "RAVEL"}
    assert {row["arm"] for row in rows if row["measure"] == "RAVEL"} >= {"features", "random features", "oracle"}


def test_the_tables_show_features_neurons_and_what_needs_neither(runs, concepts_file):
    arguments = [str(runs / "seed_0"), "--concepts", str(concepts_file), "--measures", "sparse-probing"]
    result = CliRunner().invoke(cli, ["concepts", *arguments, "--tokens", "500"])
    assert result.exit_code == 0, result.output
    for column in ("features", "random features", "neurons", "dense probe", "majority", "bag of tokens"):
        assert column in result.output
    assert "95% interval over words" in result.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["RUN/seed_0", "--measures", "scr,magic"], "magic"),
        (["RUN/seed_0", "RUN/seed_2"], "runs of one config"),
        (["RUN/absent"], "absent"),
        (["RUN/seed_0", "--concepts", "RUN/nothing.yaml"], "nothing.yaml"),
    ],
)
def test_what_cannot_be_measured_is_told_in_one_line(runs, arguments, says, capsys):
    assert main(["concepts", *(argument.replace("RUN", str(runs)) for argument in arguments)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("interp: ")
    assert says in error
