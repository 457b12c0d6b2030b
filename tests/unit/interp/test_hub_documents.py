"""A streamed data set goes on where it stopped, in a new process too, without the network."""

import hashlib
import json

import pyarrow
import pyarrow.parquet
import pytest
import torch

from interp import hub_documents
from interp.datasets import DataConfig, open_stream
from interp.documents import open_documents
from interp.errors import ArtifactError, DataError
from interp.hub_documents import HubStream
from interp.runs import RunFolder, RunManifest
from tests.families import tiny_model
from tests.texts import tiny_texts, write_jsonl


def write_shards(folder, suffix, texts, n_shards=3):
    for shard in range(n_shards):
        part = texts[shard::n_shards]
        if suffix == "parquet":
            table = pyarrow.table({"text": part})
            pyarrow.parquet.write_table(table, folder / f"part{shard}.parquet", row_group_size=7)
        else:
            write_jsonl(folder / f"part{shard}.jsonl", part)
    return str(folder)


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_from_every_place_the_rest_comes(tmp_path, suffix):
    folder = write_shards(tmp_path, suffix, tiny_texts(50))
    stream = HubStream(folder)
    every = list(stream.iter_from({}))
    assert sorted(record["text"] for _, record in every) == sorted(tiny_texts(50))
    for index in range(0, 50, 7):
        # As a checkpoint keeps it.
        place = json.loads(json.dumps(every[index][0]))
        assert all(type(value) is int for value in place.values())
        rest = [record for _, record in HubStream(folder).iter_from(place)]
        assert rest == [record for _, record in every[index + 1 :]]


def test_going_on_reads_no_shard_that_is_done(tmp_path):
    folder = write_shards(tmp_path, "jsonl", tiny_texts(60))
    place = [place for place, _ in HubStream(folder).iter_from({})][45]
    stream = HubStream(folder)
    (tmp_path / "part0.jsonl").write_text("no JSON at all")
    assert len(list(stream.iter_from(place))) == 14


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub that knows one data set."""
    folder = write_shards(tmp_path, "jsonl", tiny_texts(1100, longest=4))
    opened = hub_documents._open

    def open_known(name):
        return opened(folder if name == "somebody/words" else name)

    monkeypatch.setattr(hub_documents, "_open", open_known)
    return "somebody/words"


def test_a_token_stream_takes_its_cursor_to_another_process(hub):
    config = DataConfig(context_size=8, batch_tokens=128)
    first = open_stream(hub, tiny_model("llama"), config)
    pairs = list(zip(range(60), first.iter_from({}), strict=False))
    groups = {cursor["document"] for _, (cursor, _) in pairs}
    assert len(groups) > 1
    for index in (0, 41):
        cursor, expected = pairs[index][1]
        stream = open_stream(hub, tiny_model("llama"), config).iter_from(json.loads(json.dumps(cursor)))
        for (again, batch), (_, (then, before)) in zip(stream, pairs[index:], strict=False):
            assert (again["document"], again["batch"]) == (then["document"], then["batch"])
            assert torch.equal(batch.token_ids, before.token_ids)
            assert torch.equal(batch.document, before.document)
        assert next(iter(open_stream(hub, tiny_model("llama"), config).iter_from(cursor)))[0] == cursor
        assert expected.n_kept


def test_a_second_pass_begins_at_the_start(hub):
    stream = open_stream(hub, tiny_model("llama"), DataConfig(context_size=8, batch_tokens=8192), split="all")
    passes = {}
    for cursor, batch in stream.iter_from({}):
        if cursor["epoch"] == 2:
            break
        passes.setdefault(cursor["epoch"], []).append(batch.token_ids)
    assert all(torch.equal(one, two) for one, two in zip(passes[0], passes[1], strict=True))


def test_documents_of_the_hub_are_numbered(hub):
    documents = open_documents(hub)
    every = list(documents.iter_from())
    assert [number for number, _ in every] == list(range(1100))
    assert list(documents.iter_from(1090)) == every[1090:]


def test_a_run_from_before_files_were_hashed_goes_on(hub, tmp_path):
    facts = open_stream(hub, tiny_model("llama"), DataConfig(context_size=8)).facts
    former = facts | {"content_hash": hashlib.sha256(f"{hub}@".encode()).hexdigest()}
    run = RunFolder.begin(tmp_path / "run", DataConfig(), RunManifest.begin("sae", seed=0, data=former))
    run.check_same_inputs(model={}, data=facts)
    with pytest.raises(ArtifactError, match="data set's content has changed"):
        run.check_same_inputs(model={}, data=facts | {"dataset": "somebody/else"})


def test_a_hub_that_has_it_not_is_a_one_line_error():
    with pytest.raises(DataError, match="no such file or folder, and the hub did not") as caught:
        open_documents("nobody/nothing")
    assert "\n" not in str(caught.value)


def test_a_shard_that_cannot_be_read_is_a_one_line_error(tmp_path):
    folder = write_shards(tmp_path, "jsonl", tiny_texts(9))
    stream = HubStream(folder)
    (tmp_path / "part1.jsonl").write_text("no JSON at all")
    with pytest.raises(DataError, match="reading on failed") as caught:
        list(stream.iter_from({}))
    assert "\n" not in str(caught.value)
