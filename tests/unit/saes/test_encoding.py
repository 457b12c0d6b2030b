"""What is encoded is what the SAE says of harvested activations, token for token, whatever shares a batch."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch

import saes
from interp.activations.harvest import harvest_batch
from interp.datasets import DataConfig
from interp.errors import ArtifactError, ConfigError, DataError
from interp.texts import Texts
from saes.encoded_parquet import read_provenance
from saes.encoding import COLUMNS, iter_entries
from saes.facts import SAEFacts
from tests.families import SPECIAL, tiny_model, tiny_tokenizer
from tests.specimens import HOOK, random_sae, tiny_stream
from tests.texts import tiny_texts

DATA = {
    "context_size": 24,
    "prepend_bos": True,
    "mask_policy": {"mask_bos": True, "mask_special": True},
}
TEXTS = tiny_texts(60, longest=20)


@pytest.fixture(scope="module")
def opened():
    model, sae = tiny_model("llama"), random_sae("batch_topk")
    return saes.OpenedSAE(Path("runs/x/sae"), model, sae, SAEFacts(HOOK, "batch_topk", (24,), model.facts, DATA))


def _as_texts(texts):
    return Texts("here", None, lambda: iter(texts))


def _by_token(table):
    columns = table.to_pydict()
    return {
        (document, position, feature): (token, activation)
        for document, position, token, feature, activation in zip(*(columns[name] for name in COLUMNS), strict=True)
    }


def test_entries_equal_the_encoded_harvest(opened, tmp_path):
    expected = {}
    for batch in tiny_stream(tmp_path, opened.model).iter_pass():
        acts = harvest_batch(opened.model, batch, (HOOK,))
        with torch.no_grad():
            code = opened.sae.encode(acts.acts[HOOK])
        for row, feature, value in zip(code.rows(), code.features, code.values, strict=True):
            where = int(acts.document[row]), int(acts.position[row]), int(feature)
            expected[where] = int(acts.token_ids[row]), float(value)
    found = _by_token(saes.encode_texts(opened, TEXTS))
    assert len(expected) > 500
    assert found.keys() == expected.keys()
    assert [found[key][0] for key in found] == [expected[key][0] for key in found]
    np.testing.assert_allclose([found[k][1] for k in found], [expected[k][1] for k in found], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch_tokens", [1, 30, 100_000])
def test_the_size_of_batches_does_not_matter(opened, batch_tokens):
    whole = saes.encode_texts(opened, TEXTS).to_pydict()
    rows = DataConfig(**{**opened.rows.model_dump(), "batch_tokens": batch_tokens})
    parts = list(iter_entries(opened.model, opened.sae, TEXTS, rows))
    assert sum(part.n_documents for part in parts) == len(TEXTS)
    assert sum(part.n_tokens for part in parts) == sum(len(text.split()) for text in TEXTS)
    for name in COLUMNS[:4]:
        assert np.concatenate([getattr(part, name) for part in parts]).tolist() == whole[name]
    acts = np.concatenate([part.activation for part in parts])
    np.testing.assert_allclose(acts, whole["activation"], rtol=1e-5, atol=1e-6)


def test_entries_ascend_by_document_position_and_feature(opened):
    table = saes.encode_texts(opened, TEXTS)
    keys = list(_by_token(table))
    assert keys == sorted(keys)
    assert min(table["activation"].to_pylist()) > 0


def test_a_long_document_is_read_in_windows_whose_positions_go_on(opened):
    words = [f"w{4 + i % 30}" for i in range(50)]
    table = saes.encode_texts(opened, [" ".join(words)])
    found = {position: token for (_, position, _), (token, _) in _by_token(table).items()}
    # The BOS before each window is no token of the document: position p holds word p - 1.
    assert all(token == 4 + (position - 1) % 30 for position, token in found.items())
    assert max(found) > 46
    # The second window begins anew: it is encoded as a document of its own.
    second = _by_token(saes.encode_texts(opened, [" ".join(words[23:46])]))
    window = {(0, p - 23, f): v for (_, p, f), v in _by_token(table).items() if 23 < p <= 46}
    assert window.keys() == second.keys()
    np.testing.assert_allclose([window[k][1] for k in second], [second[k][1] for k in second], rtol=1e-5)


def test_empty_texts_keep_their_numbers(opened):
    table = saes.encode_texts(opened, ["", "w5 w6", "   ", "w5 w6", ""])
    assert set(table["document"].to_pylist()) <= {1, 3}
    found = _by_token(table)
    assert [(p, f) for d, p, f in found if d == 1] == [(p, f) for d, p, f in found if d == 3]


def test_a_filter_keeps_the_wanted_features_only(opened):
    every = _by_token(saes.encode_texts(opened, TEXTS))
    some = _by_token(saes.encode_texts(opened, TEXTS, features=[3, 17]))
    assert some == {key: value for key, value in every.items() if key[2] in (3, 17)}
    assert {feature for _, _, feature in some} == {3, 17}


def test_the_saved_mask_policy_decides_about_bos(opened):
    facts = SAEFacts(HOOK, "x", (24,), data={**DATA, "mask_policy": {"mask_bos": False, "mask_special": True}})
    with_bos = saes.OpenedSAE(opened.path, opened.model, opened.sae, facts)
    assert 0 in saes.encode_texts(with_bos, TEXTS)["position"].to_pylist()
    assert 0 not in saes.encode_texts(opened, TEXTS)["position"].to_pylist()


def test_the_file_is_the_table_and_says_what_made_it(opened, tmp_path):
    out = tmp_path / "new" / "x.parquet"
    done = saes.encode_file(opened, _as_texts(TEXTS), out)
    stored = pyarrow.parquet.read_table(out)
    assert stored.to_pydict() == saes.encode_texts(opened, TEXTS).to_pydict()
    assert [str(kind) for kind in stored.schema.types] == ["int64", "int32", "int32", "int32", "float"]
    assert (done.n_documents, done.n_entries, done.n_bytes) == (60, len(stored), out.stat().st_size)
    assert done.n_tokens == sum(len(text.split()) for text in TEXTS)
    assert done.n_features == len(set(stored["feature"].to_pylist()))
    told = read_provenance(out)
    assert told["schema_version"] == 1
    assert told["model"]["content_hash"] == opened.model.content_hash
    assert told["mask_policy"] == DATA["mask_policy"]
    assert told["sae"]["path"] == "runs/x/sae"
    assert (told["n_documents"], told["n_tokens"]) == (60, done.n_tokens)


def test_row_groups_are_written_as_they_fill(opened, tmp_path, monkeypatch):
    import saes.encoded_parquet as module

    monkeypatch.setattr(module, "ROW_GROUP_ENTRIES", 100)
    small = DataConfig(**{**opened.rows.model_dump(), "batch_tokens": 24})
    monkeypatch.setattr(saes.OpenedSAE, "rows", small)
    saes.encode_file(opened, _as_texts(TEXTS), tmp_path / "x.parquet")
    assert pyarrow.parquet.ParquetFile(tmp_path / "x.parquet").num_row_groups > 5


def test_what_fails_leaves_nothing_behind(opened, tmp_path):
    def broken():
        yield "w5 w6"
        raise DataError("line 2: broken")

    out = tmp_path / "x.parquet"
    for texts, message in ((Texts("here", None, broken), "broken"), (_as_texts(["", " "]), "no usable token")):
        with pytest.raises(DataError, match=message):
            saes.encode_file(opened, texts, out)
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="no usable token"):
        saes.encode_texts(opened, [])
    with pytest.raises(ConfigError, match="got feature 24"):
        saes.encode_file(opened, _as_texts(TEXTS), out, features=[24])
    out.write_text("mine")
    with pytest.raises(ConfigError, match="--overwrite"):
        saes.encode_file(opened, _as_texts(TEXTS), out)
    with pytest.raises(DataError, match="not a file of"):
        read_provenance(out)
    saes.encode_file(opened, _as_texts(TEXTS), out, overwrite=True)
    assert read_provenance(out)["n_documents"] == 60


def test_a_bos_that_the_tokenizer_lacks_is_told():
    others = {name: token for name, token in SPECIAL.items() if name != "bos_token"}
    model, sae = replace(tiny_model("llama"), tokenizer=tiny_tokenizer(others)), random_sae("topk")
    with pytest.raises(ArtifactError, match=r"tokenizer has none.*--no-bos"):
        _ = saes.OpenedSAE(Path("x"), model, sae, SAEFacts(HOOK, "topk", (24,), data=DATA)).rows
    opened = saes.OpenedSAE(Path("x"), model, sae, SAEFacts(HOOK, "topk", (24,), data={**DATA, "prepend_bos": False}))
    assert opened.rows.prepend_bos is False


def test_the_texts_are_not_written_over(opened, tmp_path):
    (tmp_path / "texts").mkdir()
    path = tmp_path / "texts" / "a.txt"
    path.write_text("w5 w6")
    for name in (path, path.parent):
        with pytest.raises(ConfigError, match="among the texts"):
            saes.encode_file(opened, Texts(str(name), None, lambda: iter(TEXTS)), path, overwrite=True)
    assert path.read_text() == "w5 w6"


def test_a_model_without_bos_gets_none(tmp_path):
    model, sae = tiny_model("llama"), random_sae("topk")
    facts = SAEFacts(HOOK, "topk", (24,), model.facts, {**DATA, "prepend_bos": False})
    table = saes.encode_texts(saes.OpenedSAE(Path("x"), model, sae, facts), ["w5 w6"])
    assert sorted(set(table["position"].to_pylist())) == [0, 1]
    x = model.hf(torch.tensor([[5, 6]]), output_hidden_states=True).hidden_states[2][0]
    expected = sae.encode(x).active()
    np.testing.assert_allclose(table["activation"].to_pylist(), expected.values.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_an_encoder_s_windows_stand_between_its_marks(kind, tmp_path):
    model, sae = tiny_model(kind), random_sae("batch_topk")
    policy = {"mask_bos": False, "mask_special": False}
    facts = SAEFacts(HOOK, "x", (24,), model.facts, {**DATA, "context_size": 12, "mask_policy": policy})
    opened = saes.OpenedSAE(Path("x"), model, sae, facts)
    words = [f"w{5 + i % 30}" for i in range(25)]
    found = _by_token(saes.encode_texts(opened, [" ".join(words)]))
    tokens = {position: token for (_, position, _), (token, _) in found.items()}
    marks = model.frame.begin, model.frame.end
    # One [CLS] before the first word, one [SEP] behind the last: the marks of inner windows are no tokens of the text.
    assert all(token not in marks for position, token in tokens.items() if position not in (0, 26))
    assert tokens.keys() <= set(range(27))
    assert {tokens.get(0, marks[0]), tokens.get(26, marks[1])} == set(marks)
    alone = _by_token(saes.encode_texts(opened, [" ".join(words[10:20])]))
    for (_, position, feature), (_, activation) in alone.items():
        if 1 <= position <= 10:
            assert found[0, position + 10, feature][1] == pytest.approx(activation, rel=1e-4)


def test_a_single_string_is_no_list_of_texts(opened):
    for read in (
        lambda: saes.encode_texts(opened, "w4 w5"),
        lambda: list(iter_entries(opened.model, opened.sae, "w4 w5", opened.rows)),
    ):
        with pytest.raises(ConfigError, match=r"^texts: got the single string 'w4 w5'; expected a list"):
            read()
