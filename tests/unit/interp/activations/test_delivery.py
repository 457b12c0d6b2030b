"""What is made ahead, or on another device, is the same stream with the same cursors."""

import gc
import threading
import time
import weakref
from contextlib import closing
from itertools import islice

import pytest
import torch

from interp.activations.blocks import ShuffledActivations
from interp.activations.delivery import Delivered
from interp.activations.harvest import N_AHEAD, Harvest, HarvestConfig
from interp.errors import NonFiniteError
from interp.hooks import edit
from saes.planning.counts import Counts
from saes.training import TrainConfig
from tests.families import tiny_model
from tests.specimens import HOOK, tiny_stream

CPU = torch.device("cpu")


def _made(folder, prefetch, *, delivered=False, model=None):
    model = model or tiny_model("llama")
    source = Harvest(model, tiny_stream(folder, model), (HOOK,), HarvestConfig(prefetch=prefetch))
    return Delivered(source, CPU, n_ahead=prefetch) if delivered else source


def _first(source, n, cursor=None):
    with closing(source.iter_from(cursor or {})) as chunks:
        return list(islice(chunks, n))


def _same(one, two):
    assert [cursor for cursor, _ in one] == [cursor for cursor, _ in two]
    for (_, a), (_, b) in zip(one, two, strict=True):
        assert torch.equal(a.acts[HOOK], b.acts[HOOK])
        assert torch.equal(a.token_ids, b.token_ids)
        assert torch.equal(a.document, b.document)
        assert torch.equal(a.position, b.position)


@pytest.mark.parametrize("delivered", [False, True])
def test_chunks_and_cursors_are_the_same_from_any_cursor_on(tmp_path, delivered):
    plain = _made(tmp_path, 0)
    ahead = _made(tmp_path, 3, delivered=delivered)
    # Further than one pass over the text.
    whole = _first(plain, 20)
    assert whole[-1][0]["epoch"] > 0
    _same(whole, _first(ahead, 20))
    _same(whole[7:12], _first(ahead, 5, whole[7][0]))
    assert not any(thread.name == "interp ahead" for thread in threading.enumerate())


def test_shuffled_batches_go_on_from_a_cursor_with_or_without(tmp_path):
    def blocks(prefetch):
        source = _made(tmp_path, prefetch, delivered=prefetch > 0)
        return ShuffledActivations(source, batch_size=16, block_tokens=64, seed=2)

    with closing(blocks(2)) as ahead:
        first = [next(ahead).acts[HOOK] for _ in range(6)]
        cursor = ahead.cursor()
        rest = [next(ahead).acts[HOOK] for _ in range(6)]
    plain = blocks(0)
    assert torch.equal(torch.cat([next(plain).acts[HOOK] for _ in range(12)]), torch.cat(first + rest))
    with closing(blocks(2)) as again:
        again.seek(cursor)
        assert torch.equal(torch.cat([next(again).acts[HOOK] for _ in range(6)]), torch.cat(rest))
        again.close()
        # Closed in the middle of a block, it goes on where it was.
        later = next(again).acts[HOOK]
        assert torch.equal(later, next(plain).acts[HOOK])


def test_what_the_model_does_wrong_is_told_where_it_is_used(tmp_path):
    model = tiny_model("llama")
    source = _made(tmp_path, 2, delivered=True, model=model)
    with edit(model, {"blocks.0.hook_mlp_out": lambda x: x * float("nan")}), pytest.raises(NonFiniteError, match=HOOK):
        _first(source, 1)


def test_activations_come_on_the_device_where_they_are_used(tmp_path):
    """The model on one device, the buffer on another, which here holds shapes and no numbers."""
    model = tiny_model("llama")
    source = Delivered(_made(tmp_path, 1, model=model), torch.device("meta"), n_ahead=1)
    (_, chunk), *_ = _first(source, 1)
    assert model.device.type == "cpu"
    assert {x.device.type for x in (chunk.acts[HOOK], chunk.token_ids, chunk.position)} == {"meta"}
    with closing(ShuffledActivations(source, batch_size=16, block_tokens=64, seed=2)) as batches:
        assert next(batches).acts[HOOK].device.type == "meta"


class Watched:
    """A source that knows which of its chunks somebody still holds."""

    def __init__(self, source):
        self.widths, self._source, self._made = source.widths, source, []

    def iter_from(self, cursor):
        for here, chunk in self._source.iter_from(cursor):
            self._made.append(weakref.ref(chunk.acts[HOOK]))
            yield here, chunk
            # Not held by this frame while the next is made.
            del chunk

    @property
    def n_made(self):
        return len(self._made)

    def n_live(self):
        gc.collect()
        return sum(made() is not None for made in self._made)


@pytest.mark.parametrize("n_ahead", [1, 3])
def test_so_many_chunks_are_held_at_once(tmp_path, n_ahead):
    """Those made ahead, one in the thread's hand, and the one that is used: what a plan counts."""
    watched = Watched(_made(tmp_path, 0))
    config = TrainConfig.parse({"hook": HOOK, "data": {"batch_tokens": 96}})
    counts = Counts(config, d_in=watched.widths[HOOK], forward_flops=1.0, model_bytes=0, act_bytes=4)
    with closing(Delivered(watched, CPU, n_ahead=n_ahead).iter_from({})) as chunks:
        for n_taken in range(1, 5):
            _, chunk = next(chunks)
            end = time.monotonic() + 60
            while watched.n_made < n_taken + n_ahead + 1 and time.monotonic() < end:
                time.sleep(0.001)
            tensors = (chunk.acts[HOOK], chunk.token_ids, chunk.document, chunk.position)
            bytes_each = 96 * sum(x.nbytes for x in tensors) // len(chunk)
            assert watched.n_live() * bytes_each == counts.ahead_bytes(n_ahead)


def test_threads_work_beside_and_waiting_for_text_is_told(tmp_path):
    plain, ahead = _made(tmp_path, 0), _made(tmp_path, 2, delivered=True)
    _first(plain, 3)
    _first(ahead, 3)
    assert plain.seconds["text"] > 0
    assert ahead.seconds.keys() == {"ahead"}
    assert ahead.seconds["ahead"] > 0


def test_batches_are_made_ahead_where_a_gpu_takes_part_unless_the_config_says_otherwise():
    gpu = torch.device("cuda")
    assert HarvestConfig().n_ahead(CPU, gpu) == N_AHEAD
    assert HarvestConfig().n_ahead(CPU) == 0
    assert HarvestConfig(prefetch=3).n_ahead(CPU) == 3
    assert HarvestConfig(prefetch=0).n_ahead(gpu) == 0


@pytest.mark.gpu
@pytest.mark.parametrize("places", [("cpu", "cuda"), ("cuda", "cpu")])
def test_a_gpu_gets_and_gives_the_same_stream(tmp_path, places):
    made_on, used_on = map(torch.device, places)
    model = tiny_model("llama")
    model.hf.to(made_on)
    source = Harvest(model, tiny_stream(tmp_path, model), (HOOK,))
    plain = _first(source, 12)
    found = _first(Delivered(source, used_on, n_ahead=4), 12)
    assert found[0][1].acts[HOOK].device.type == used_on.type
    for (_, a), (_, b) in zip(plain, found, strict=True):
        assert torch.equal(a.acts[HOOK].cpu(), b.acts[HOOK].cpu())
