"""Held-out pairs share no cluster with those that something is found on."""

import json

import pytest

from interp.document_hash import split_share
from interp.errors import DataError, ShapeError
from interp.example_pairs import pronoun_pairs
from interp.models import load_model
from interp.pair_files import read_split_pairs, split_pairs
from interp.prompt_files import read_records
from tests.families import tiny_model


def line(clean: str, corrupt: str, **more: str) -> dict[str, str]:
    return {"clean": clean, "corrupt": corrupt, "answer": "w30", "foil": "w31", **more}


LINES = [line(f"w5 w{n} w6", f"w5 w{n + 1} w6", cluster=f"c{n // 2}") for n in range(8, 28)]


def test_a_file_without_splits_is_split_by_cluster(tmp_path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in LINES))
    found = read_split_pairs(path, tiny_model("gpt2"))
    n_heldout = sum(2 for n in range(4, 14) if split_share(f"c{n}") < 0.5)
    assert (len(found.train), len(found.heldout)) == (20 - n_heldout, n_heldout)
    texts = {*found.train.clean.texts} & {*found.heldout.clean.texts}
    assert not texts
    # Two lines of a cluster share its number.
    assert found.train.clean.clusters.bincount().tolist() == [2] * (len(found.train) // 2)


def test_said_splits_are_kept_and_clusters_may_not_be_on_both_sides() -> None:
    model = tiny_model("gpt2")
    lines = [line("w5 w6", "w5 w7", split="train"), line("w5 w8", "w5 w9", split="heldout")]
    found = split_pairs(lines, model, source="here")
    assert found.heldout.clean.token_ids.tolist() == [[*found.heldout.clean.token_ids[0].tolist()]]
    assert (len(found.train), len(found.heldout)) == (1, 1)
    both = [dict(one, cluster="same") for one in lines]
    with pytest.raises(DataError, match="'same' is in train and in heldout"):
        split_pairs(both, model, source="here")
    with pytest.raises(DataError, match="no heldout pairs"):
        split_pairs(lines[:1], model, source="here")
    with pytest.raises(DataError, match="split: got 'test'"):
        split_pairs([dict(lines[0], split="test")], model, source="here")
    with pytest.raises(ShapeError, match="pair 0"):
        split_pairs([line("w5 w6", "w5 w7 w8", split="train"), lines[1]], model, source="here")


def test_the_example_holds_names_and_templates_out() -> None:
    model = load_model("embedded", device="cpu")
    found = pronoun_pairs(model)
    names = [
        {word.strip(".,") for text in side.clean.texts for word in text.split()}
        for side in (found.train, found.heldout)
    ]
    people = {"Tom", "Jack", "Ben", "Bob", "Joe", "Leo", "Lily", "Mia", "Anna", "Emma", "Sue", "Lucy"}
    assert names[0] & people
    assert not names[0] & names[1] & people
    with pytest.raises(DataError, match="give --prompts"):
        pronoun_pairs(tiny_model("gpt2"))


def test_a_prompt_may_not_be_on_both_sides() -> None:
    model = tiny_model("gpt2")
    first = line("w5 w6", "w5 w7", split="train")
    for other in (line("w5 w6", "w5 w9", split="heldout"), line("w5 w7", "w5 w6", split="heldout")):
        with pytest.raises(DataError, match=r"line 2: .* is in train and in heldout"):
            split_pairs([first, other], model, source="here")
    # One corrupt prompt for all pairs tells nothing of the clean ones.
    apart = split_pairs([first, line("w5 w8", "w5 w7", split="heldout")], model, source="here")
    assert (len(apart.train), len(apart.heldout)) == (1, 1)


def test_separators_inside_a_text_do_not_end_its_line(tmp_path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(line("w5\u2028w6", "w5\u2028w7"), ensure_ascii=False), encoding="utf-8")
    assert read_records(path, ("clean", "corrupt"), ())[0]["clean"] == "w5\u2028w6"
