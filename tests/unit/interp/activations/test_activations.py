import time
from itertools import islice

import pytest
import torch

from interp.activations.blocks import ShuffledActivations
from interp.activations.collect import CollectConfig
from interp.activations.harvest import Harvest
from interp.activations.store import StoredActivations, write_store
from interp.datasets import DataConfig, open_stream
from interp.errors import ArtifactError, ConfigError, NonFiniteError, UnknownHookError
from interp.hooks import edit
from interp.runs import RunFolder, RunManifest
from tests.families import tiny_model
from tests.texts import tiny_texts, write_jsonl

HOOKS = ("blocks.0.hook_resid_post", "blocks.1.attn.hook_z")


@pytest.fixture
def source(tmp_path):
    path = write_jsonl(tmp_path / "texts.jsonl", tiny_texts(50))
    model = tiny_model("llama")
    return Harvest(model, open_stream(str(path), model, DataConfig(context_size=16, batch_tokens=64)), HOOKS)


def _shuffled(source, **more):
    return ShuffledActivations(source, **({"batch_size": 10, "block_tokens": 70, "seed": 3} | more))


def _same(a, b):
    return torch.equal(a.token_ids, b.token_ids) and all(torch.equal(a.acts[h], b.acts[h]) for h in a.acts)


def _store(source, folder, n_tokens=333, shard_tokens=100):
    config = CollectConfig(hooks=HOOKS)
    manifest = RunManifest.begin("activations", seed=0)
    write_store(RunFolder.begin(folder, config, manifest), source, n_tokens=n_tokens, shard_tokens=shard_tokens)
    return folder


def test_harvested_activations_are_the_models(source):
    model = source._model
    chunks = [chunk for _, chunk in islice(source.iter_from({}), 4)]
    document, text = next((n, t) for n, t in enumerate(tiny_texts(50)) if any((c.document == n).any() for c in chunks))
    chunk = next(chunk for chunk in chunks if (chunk.document == document).any())
    row = model.tokenizer(text)["input_ids"]
    start = 0 if chunk.token_ids[chunk.document == document][0] == row[0] else 15
    piece = row[start : start + 15]
    ids = torch.tensor([[model.bos_token_id, *piece]])
    hidden = model.hf(ids, output_hidden_states=True).hidden_states[1][0, 1:]
    mine = chunk.take(chunk.document == document).take(slice(0, len(piece)))
    assert mine.token_ids.tolist() == piece
    assert mine.position.tolist() == list(range(1, len(piece) + 1))
    assert (mine.acts[HOOKS[0]] - hidden).abs().max() <= 1e-5 * hidden.abs().max()


def test_shuffling_loses_and_doubles_nothing(source):
    """A block holds the same tokens as the source, in another order."""
    blocks = _shuffled(source)
    n = 70
    ordered = torch.cat([chunk.acts[HOOKS[0]] for _, chunk in islice(source.iter_from({}), 5)])[:n]
    mixed = torch.cat([next(blocks).acts[HOOKS[0]] for _ in range(n // 10)])
    assert not torch.equal(ordered, mixed)
    assert torch.equal(ordered.sum(1).sort().values, mixed.sum(1).sort().values)


@pytest.mark.parametrize("cut", [0, 1, 6, 7, 8, 20, 33])
def test_a_cursor_gives_the_same_batches_again(source, cut):
    one = _shuffled(source)
    for _ in range(cut):
        next(one)
    two = _shuffled(source)
    two.seek(one.cursor())
    for _ in range(25):
        assert _same(next(one), next(two))
        assert one.cursor() == two.cursor()


def test_looking_ahead_uses_nothing_up(source):
    one, two = _shuffled(source), _shuffled(source)
    assert len(one.peek(1000)) == 70
    assert _same(next(one), next(two))


def test_seeds_give_different_orders(source):
    assert not _same(next(_shuffled(source)), next(_shuffled(source, seed=4)))


def test_disk_and_model_give_the_same_batches(source, tmp_path):
    stored = StoredActivations(_store(source, tmp_path / "acts"))
    assert (stored.n_tokens, dict(stored.widths)) == (333, dict(source.widths))
    live, disk = _shuffled(source), _shuffled(stored)
    # Four blocks of 70: beyond 333 tokens the store begins anew.
    for _ in range(28):
        assert _same(next(live), next(disk))


def test_an_interrupted_store_goes_on_where_it_was(source, tmp_path):
    whole = _store(source, tmp_path / "whole")
    part = _store(source, tmp_path / "part", n_tokens=200)
    write_store(RunFolder(part), source, n_tokens=333, shard_tokens=100)
    hashes = [[s["sha256"] for s in RunFolder(f).manifest().results["shards"]] for f in (whole, part)]
    assert hashes[0] == hashes[1]


def test_the_store_resumes_after_a_crash_in_a_shard(source, tmp_path, monkeypatch):
    import interp.activations.store as module

    whole = _store(source, tmp_path / "whole")
    original, calls = module.write_tensors, []

    def crash(path, tensors):
        calls.append(path)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(path, tensors)

    monkeypatch.setattr(module, "write_tensors", crash)
    with pytest.raises(KeyboardInterrupt):
        _store(source, tmp_path / "part")
    with pytest.raises(ArtifactError, match="not finished"):
        StoredActivations(tmp_path / "part")
    write_store(RunFolder(tmp_path / "part"), source, n_tokens=333, shard_tokens=100)
    hashes = [[s["sha256"] for s in RunFolder(tmp_path / f).manifest().results["shards"]] for f in ("whole", "part")]
    assert whole.exists()
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize("damage", [lambda p: p.unlink(), lambda p: p.write_bytes(p.read_bytes()[:-9])])
def test_a_missing_or_truncated_shard_is_named(source, tmp_path, damage):
    folder = _store(source, tmp_path / "acts")
    damage(folder / "shard_00002.safetensors")
    with pytest.raises(ArtifactError, match=r"shard_00002\.safetensors"):
        list(islice(StoredActivations(folder).iter_from({}), 10))


def test_hooks_that_are_not_there_are_told(source, tmp_path):
    with pytest.raises(ConfigError, match="collect it too"):
        StoredActivations(_store(source, tmp_path / "acts"), hooks=("blocks.2.hook_resid_post",))
    with pytest.raises(UnknownHookError):
        Harvest(source._model, source._tokens._stream, ("blocks.9.hook_resid_post",))


def test_nan_activations_stop_with_the_hook_named(source):
    broken = edit(source._model, {"blocks.0.hook_mlp_out": lambda x: x * float("nan")})
    with broken, pytest.raises(NonFiniteError, match=r"blocks\.0\.hook_resid_post"):
        next(iter(source.iter_from({})))


def test_memory_does_not_grow_with_tokens(source):
    """One block and at most one chunk are held, however many batches were drawn."""
    blocks = _shuffled(source)
    for _ in range(100):
        next(blocks)
    assert all(x.shape[0] == 70 for x in blocks._block.acts.values())
    assert len(blocks._rest[2]) <= 64


def test_waiting_for_the_model_is_told_apart_from_mixing(source):
    """The source's time is the model's: a source that sleeps adds just that, batches from the block add nothing."""

    class Slow:
        widths = source.widths

        def iter_from(self, cursor):
            for pair in source.iter_from(cursor):
                time.sleep(0.02)
                yield pair

    blocks = _shuffled(Slow())
    assert blocks.laps.totals() == {}
    next(blocks)
    filled = blocks.laps.totals()["harvest"]
    assert filled >= 0.04
    for _ in range(6):
        next(blocks)
    assert blocks.laps.totals()["harvest"] == filled
