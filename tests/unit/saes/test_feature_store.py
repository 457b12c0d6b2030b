import dataclasses
import json
import sqlite3
from functools import partial

import numpy as np
import pyarrow.parquet
import pytest

from interp.errors import ArtifactError, ConfigError, StorageError
from saes.feature_export import export_parquet
from saes.feature_index import SEARCHED_WINDOWS, write_index
from saes.features import FeatureSettings, FeatureStore, write_features
from tests.families import tiny_model
from tests.specimens import random_sae, tiny_stream

TEXTS = [f" word{index}" for index in range(40)]
TEXTS[4] = " don't"
SETTINGS = FeatureSettings(n_tokens=10**6, n_top=4, window=7)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("store")
    model = tiny_model("llama")
    stream = tiny_stream(place, model)
    write_features(model, random_sae("matryoshka"), stream, place / "features", SETTINGS, token_texts=TEXTS)
    return place / "features"


@pytest.fixture
def store(folder):
    return FeatureStore.open(folder)


def test_rows_are_sorted_filtered_and_cut(store):
    s = store.statistics
    rows = store.table(sort="density", limit=5, offset=2)
    order = np.lexsort((np.arange(s.d_sae), -s.density))
    assert [row["id"] for row in rows] == order[2:7].tolist()
    low, high = np.quantile(s.density, [0.25, 0.75])
    rows = store.table(sort="id", descending=False, where={"density": (low, high), "level": (2, None)})
    expected = np.flatnonzero((s.density >= low) & (s.density <= high) & (s.level >= 2))
    assert [row["id"] for row in rows] == expected.tolist()
    first = rows[0]
    assert first["max_activation"] == pytest.approx(s.max_activation[first["id"]])
    assert first["partner"] == s.partners[first["id"], 0] or s.partners[first["id"], 0] == -1


def test_what_was_not_measured_is_null_and_last(store):
    s = store.statistics
    assert np.isnan(s.token_auc).any()
    for descending in (True, False):
        values = [row["token_auc"] for row in store.table(sort="token_auc", descending=descending, limit=10**6)]
        n_measured = int((~np.isnan(s.token_auc)).sum())
        assert all(value is None for value in values[n_measured:])
        assert values[:n_measured] == sorted(values[:n_measured], reverse=descending)


def test_an_unknown_column_is_named(store):
    with pytest.raises(ConfigError, match="did you mean 'density'"):
        store.table(sort="densty")
    with pytest.raises(ConfigError, match="1; DROP"):
        store.table(where={"1; DROP TABLE features": (0, 1)})


def test_features_by_token(store):
    s = store.statistics
    for kind, tokens, values in (
        ("fires_on", s.firing_tokens, s.firing_token_share),
        ("raises", s.raised_tokens, s.raised_logits),
        ("lowers", s.lowered_tokens, s.lowered_logits),
    ):
        token = int(tokens[tokens >= 0][0])
        found = store.features_of_token(token, kind=kind, limit=100)
        rows, ranks = np.nonzero(tokens == token)
        assert dict(found) == {int(row): float(values[row, rank]) for row, rank in zip(rows, ranks, strict=True)}
        sizes = [abs(value) for _, value in found]
        assert sizes == sorted(sizes, reverse=True)


def test_search_finds_the_shown_words(store):
    top = store.statistics.top.tokens[:, :SEARCHED_WINDOWS]
    for token in (7, 23):
        expected = np.flatnonzero((top == token).any((1, 2)))
        assert store.search(f"WORD{token}", limit=100) == expected.tolist()
    both = np.flatnonzero((top == 7).any((1, 2)) & (top == 23).any((1, 2)))
    assert store.search("word7 word23", limit=100) == both.tolist()
    assert store.search("don't", limit=100) == np.flatnonzero((top == 4).any((1, 2))).tolist()


@pytest.mark.parametrize("text", ["", "  ", '"', "word7 AND (", "nosuchword", "***", "a:b", "\x00", "😀"])
def test_any_text_may_be_searched_for(store, text):
    assert isinstance(store.search(text), list)


def test_labels_are_written_found_and_taken_away(store):
    assert store.label(3) is None
    store.set_label(3, label="100%_sure", note="names of places")
    store.set_label(1, label="", note="see 3")
    assert [label.feature for label in store.labels()] == [1, 3]
    assert store.label(3).note == "names of places"
    assert store.search("0%_s")[:1] == [3]
    assert 3 not in store.search("0%xs")
    assert store.search("of places")[:1] == [3]
    assert store.set_label(3, label="", note="") is None
    assert store.set_label(1, label="", note="") is None
    assert store.labels() == []
    with pytest.raises(ConfigError, match="expected 0 to 23"):
        store.set_label(24, label="x")


def test_labels_survive_a_new_pass(tmp_path):
    model = tiny_model("llama")
    stream, sae = tiny_stream(tmp_path, model), random_sae("topk")
    write_features(model, sae, stream, tmp_path / "features", SETTINGS)
    written = FeatureStore.open(tmp_path / "features").set_label(5, label="commas")
    write_features(model, sae, stream, tmp_path / "features", SETTINGS.model_copy(update={"n_top": 2}))
    assert FeatureStore.open(tmp_path / "features").labels() == [written]


def test_labels_of_another_sae_are_not_taken_over(tmp_path):
    model = tiny_model("llama")
    stream, folder, calls = tiny_stream(tmp_path, model), tmp_path / "features", []
    write_features(model, random_sae("topk"), stream, folder, SETTINGS)
    written = FeatureStore.open(folder).set_label(5, label="commas")
    again = partial(write_features, model, on_progress=lambda *told: calls.append(told))
    with pytest.raises(ArtifactError, match="1 labels of another SAE"):
        again(random_sae("topk", seed=1), stream, folder, SETTINGS)
    # Told before the pass, not after it; and nothing is lost.
    assert calls == []
    assert FeatureStore.open(folder).labels() == [written]
    FeatureStore.open(folder).set_label(5, label="")
    again(random_sae("topk", seed=1), stream, folder, SETTINGS)
    assert FeatureStore.open(folder).labels() == []


def test_a_damaged_older_index_is_told_before_the_pass(tmp_path):
    model, calls = tiny_model("llama"), []
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / "features.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(ArtifactError, match="labels cannot be read"):
        write_features(
            model, random_sae("topk"), tiny_stream(tmp_path, model), tmp_path / "features", SETTINGS,
            on_progress=lambda *told: calls.append(told),
        )  # fmt: skip
    assert calls == []


def test_only_a_full_disk_asks_for_space(store, tmp_path):
    with pytest.raises(StorageError, match="check the folder"):
        write_index(tmp_path / "nowhere", store.statistics, [], [])


def test_provenance_says_what_was_looked_at(store):
    assert store.provenance["settings"]["n_top"] == 4
    assert store.provenance["data"]["split"]["used"] == "all"
    assert len(store.provenance["sae"]["content_hash"]) == 64


def test_a_missing_or_damaged_index_is_named(tmp_path, folder):
    with pytest.raises(ArtifactError, match=r"features\.sqlite"):
        FeatureStore.open(tmp_path)
    store = dataclasses.replace(FeatureStore.open(folder), folder=tmp_path)
    (tmp_path / "features.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(ArtifactError, match=r"features\.sqlite"):
        store.table()
    (tmp_path / "features.sqlite").unlink()
    sqlite3.connect(tmp_path / "features.sqlite").close()
    with pytest.raises(ArtifactError, match="no such table"):
        store.labels()


def test_parquet_holds_every_feature_and_window(store, tmp_path):
    s = store.statistics
    features, windows = export_parquet(s, tmp_path / "out", provenance=store.provenance)
    table = pyarrow.parquet.read_table(features)
    assert table.num_rows == s.d_sae
    np.testing.assert_array_equal(table["density"].to_numpy(), s.density)
    np.testing.assert_array_equal(np.array(table["partners"].to_pylist()), s.partners)
    assert table.schema.metadata[b"n_tokens"] == str(s.n_tokens).encode()
    for path in (features, windows):
        assert json.loads(pyarrow.parquet.read_schema(path).metadata[b"provenance"]) == store.provenance
    shown = pyarrow.parquet.read_table(windows).to_pylist()
    assert len(shown) == sum(int((getattr(s, kind).values > 0).sum()) for kind in ("top", "random", "quantile"))
    for row in shown[:50]:
        kind = getattr(s, row["kind"])
        assert row["tokens"] == kind.tokens[row["feature"], row["rank"]].tolist()
        assert row["value"] == pytest.approx(float(kind.values[row["feature"], row["rank"]]))
    assert not list((tmp_path / "out").glob(".*"))
