"""Words of a hierarchy found in running text."""

import re

import pytest

import interp
from interp.datasets import DataConfig, open_stream
from probes.concept_generator import names_hierarchy
from probes.concepts import Hierarchy
from probes.running_text import IGNORED, OTHER, WordLabels
from tests.texts import write_jsonl

HIERARCHY = Hierarchy(
    kind="hierarchy",
    name="names",
    parent="name",
    children={"female": ("Lily", "Zelda"), "male": ("Tim",)},
    ignored=("Spot",),
)


@pytest.fixture(scope="module")
def model():
    return interp.load_model("embedded", device="cpu")


def _labelled(model, tmp_path, text, hierarchy=HIERARCHY):
    path = write_jsonl(tmp_path / "text.jsonl", [text])
    labels = WordLabels(model.tokenizer, hierarchy)
    batch = next(open_stream(str(path), model, DataConfig(), split="all").iter_pass())
    tokens = model.tokenizer.convert_ids_to_tokens(batch.token_ids[batch.keep].tolist())
    return labels, list(zip(tokens, labels.of_batch(batch).tolist(), strict=True))


def test_a_word_is_labelled_at_its_last_token_and_nowhere_else(model, tmp_path):
    labels, found = _labelled(model, tmp_path, 'Zelda saw Tim. "Tim!" said Zelda\'s cat Spot to Lily\nLily ran.')
    names = [labels.words[label] for _, label in found if label >= 0]
    assert names == ["Zelda", "Tim", "Tim", "Zelda", "Lily", "Lily"]
    spot = [label for token, label in found if "Spot" in token]
    assert spot == [IGNORED]
    pieces = model.tokenizer(" Zelda", add_special_tokens=False)["input_ids"]
    # The pieces before the last count as nothing.
    assert sum(label == IGNORED for _, label in found) == 1 + 2 * (len(pieces) - 1)


def test_what_only_begins_like_a_word_is_none(model, tmp_path):
    _, found = _labelled(model, tmp_path, "Timothy and Timmy and time saw a Lilypad.")
    assert {label for _, label in found} == {OTHER}


def test_nearly_all_names_of_a_corpus_are_found(model):
    hierarchy = names_hierarchy()
    labels = WordLabels(model.tokenizer, hierarchy)
    stream = open_stream("embedded", model, DataConfig(batch_tokens=2048), split="heldout")
    batch = next(stream.iter_pass())
    texts = dict(stream.documents.iter_from())
    found = int((labels.of_batch(batch) >= 0).sum())
    documents = sorted({int(d) for d in batch.document[batch.keep]})
    words = set(labels.words)
    wanted = sum(word in words for d in documents for word in re.findall(r"[A-Za-z]+", texts[d]))
    assert wanted > 20
    # Rows are pieces of documents of at most one context; these are short enough to be whole.
    assert found == wanted
