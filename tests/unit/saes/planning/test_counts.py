"""Counts against what really happens: parameters, tokens read, checkpoints written, operations run."""

from dataclasses import replace
from itertools import islice

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from interp.activations.blocks import ShuffledActivations
from interp.activations.harvest import Harvest
from interp.checkpoints import save_checkpoint, take_state
from interp.code import ActivationBatch
from interp.loop import update
from interp.storage import make_folder
from saes import SAEConfig, create_sae, save_sae
from saes.config import ARCHITECTURE_NAMES
from saes.optimiser import make_optimiser
from saes.planning.counts import Counts
from saes.planning.placed import beside
from saes.planning.run_plan import forward_flops
from saes.training import TrainConfig
from tests.families import tiny_model
from tests.specimens import HOOK, tiny_stream


def _counts(d_in=16, **settings):
    sae = settings.pop("sae", {"d_sae": 64, "k": 4})
    config = TrainConfig.parse({"hook": HOOK, "tokens": 640, "batch_size": 64, "sae": sae, **settings})
    return Counts(config, d_in=d_in, forward_flops=1.0, model_bytes=0, act_bytes=4)


def _batch(n, d):
    index = torch.zeros(n, dtype=torch.int64)
    return ActivationBatch({HOOK: torch.randn(n, d)}, index, index, index)


@pytest.mark.parametrize(("tokens", "block"), [(640, 128), (640, 500), (320, 100_000), (65, 1)])
def test_tokens_read_are_those_that_the_buffer_asks_for(tmp_path, tokens, block):
    model = tiny_model("llama")
    counts = _counts(tokens=tokens, shuffle={"block_tokens": block})
    source = Harvest(model, tiny_stream(tmp_path, model), (HOOK,))
    batches = ShuffledActivations(source, batch_size=64, block_tokens=block, seed=0)
    fills = []
    original = batches._fill
    batches._fill = lambda: fills.append(original())
    for _ in range(counts.config.n_steps):
        next(batches)
    assert counts.block_tokens == batches._block_tokens
    assert counts.harvested_tokens == len(fills) * batches._block_tokens
    block_now = batches._block
    held = sum(x.nbytes for x in (*block_now.acts.values(), block_now.token_ids, block_now.document))
    assert counts.block_bytes == held + block_now.position.nbytes + batches._order.nbytes


@pytest.mark.parametrize(("tokens", "every", "expected"), [(640, 5, 2), (640, 4, 3), (640, 100, 1)])
def test_checkpoints_are_counted_as_the_recorder_writes_them(tokens, every, expected):
    counts = _counts(tokens=tokens, recording={"checkpoint_every": every})
    written = [step for step in range(1, counts.config.n_steps + 1) if step % every == 0 or step == 10]
    assert counts.n_checkpoints == len(written) == expected


@pytest.mark.parametrize("architecture", ARCHITECTURE_NAMES)
def test_parameters_and_files_have_the_sizes_counted(tmp_path, architecture):
    counts = _counts(d_in=64, sae={"architecture": architecture, "d_sae": 512, "k": 8})
    sae = create_sae(counts.config.sae, 64, hooks_in=(HOOK,), token_budget=640)
    assert sum(parameter.numel() for parameter in sae.parameters()) == counts.n_parameters
    optimiser = make_optimiser(sae, 1e-3)
    torch.nn.init.normal_(sae.W_enc)
    torch.nn.init.normal_(sae.W_dec)
    update(sae, optimiser, sae.losses(_batch(64, 64)), lr=1e-3, clip_norm=1.0, step=1)

    class Nothing:
        def __next__(self): ...
        def cursor(self):
            return {}

        def seek(self, cursor): ...

    state = take_state(sae, optimiser, Nothing(), step=1, n_tokens=64, metrics_offset=0)
    save_checkpoint(make_folder(tmp_path / "checkpoints"), state)
    save_sae(tmp_path / "sae", sae, {})

    def size(folder):
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

    assert size(tmp_path / "checkpoints") == pytest.approx(counts.checkpoint_bytes, rel=0.03)
    assert size(tmp_path / "sae") == pytest.approx(counts.sae_bytes, rel=0.03)


@pytest.mark.parametrize("architecture", ["topk", "batch_topk", "matryoshka"])
def test_the_sparse_step_has_one_dense_product(architecture):
    """What a counter of products sees is the encoder's, and nothing else of that order."""
    counts = _counts(d_in=64, sae={"architecture": architecture, "d_sae": 512, "k": 8})
    products = _products(counts)
    encoder = 2 * 64 * 512 * 64
    assert encoder <= products < 1.05 * encoder
    assert counts.step_flops() == encoder + 8 * 8 * 64 * 64 + 12 * counts.n_parameters


def test_a_penalised_step_is_counted_at_the_l0_that_it_is_steered_to():
    topk, standard = (_counts(d_in=64, sae={"architecture": a, "d_sae": 512, "k": 8}) for a in ("topk", "standard"))
    assert standard.step_flops() == topk.step_flops()
    steered = _counts(d_in=64, sae={"architecture": "standard", "d_sae": 512, "l0_target": 16.0})
    assert steered.step_flops() - standard.step_flops() == 8 * 8 * 64 * 64
    gated = _counts(d_in=64, sae={"architecture": "gated", "d_sae": 512, "k": 8})
    decoded_twice = 4 * 8 * 64 * 64
    assert gated.step_flops() - standard.step_flops() == decoded_twice + 12 * 2 * 512


def test_a_transcoder_is_counted_with_both_its_hooks():
    counts = _counts(d_in=64, sae={"architecture": "topk", "d_sae": 512, "k": 8, "skip": True}, hook_out="out")
    counts = replace(counts, other_width=32)
    sae = create_sae(counts.config.sae, 64, hooks_in=(HOOK,), hooks_out=("out",), d_out=32)
    assert sum(parameter.numel() for parameter in sae.parameters()) == counts.n_parameters
    assert counts.read_width == 96


def _products(counts):
    sae = create_sae(counts.config.sae, counts.d_in, hooks_in=(HOOK,), token_budget=640)
    torch.nn.init.normal_(sae.W_enc)
    torch.nn.init.normal_(sae.W_dec)
    with FlopCounterMode(display=False) as counter:
        sae.losses(_batch(64, counts.d_in)).loss.backward()
    return counter.get_total_flops()


def test_a_forward_pass_is_counted_up_to_its_hook():
    """A block of the tiny Llama: q, k, v, o and three MLP matrices; attention adds 4·t·d_attention per token."""
    model = tiny_model("llama")
    d, heads, kv, d_head, mlp, t = 16, 4, 2, 6, 28, 10
    weights = d * d_head * (2 * heads + 2 * kv) + 3 * d * mlp
    expected = 2 * weights + 4 * t * heads * d_head
    assert forward_flops(model, ("blocks.0.hook_resid_post",), t) == pytest.approx(expected)
    assert forward_flops(model, ("blocks.2.hook_resid_post",), t) == pytest.approx(3 * expected)
    assert forward_flops(model, ("hook_embed",), t) == 0


def test_a_dictionary_twice_as_wide_takes_twice_the_memory_and_disk():
    one, two = (_counts(d_in=64, sae={"d_sae": f, "k": 8}) for f in (4096, 8192))
    assert two.trained_bytes / one.trained_bytes == pytest.approx(2, rel=0.01)
    assert two.checkpoint_bytes / one.checkpoint_bytes == pytest.approx(2, rel=0.02)
    assert SAEConfig(d_sae=4096).k == 32


def test_batches_made_ahead_are_counted_as_a_thread_holds_them(tmp_path):
    model = tiny_model("llama")
    counts = _counts(data={"batch_tokens": 96})
    chunks = [chunk for _, chunk in islice(Harvest(model, tiny_stream(tmp_path, model), (HOOK,)).iter_from({}), 8)]
    held = [sum(x.nbytes for x in (c.acts[HOOK], c.token_ids, c.document, c.position)) / len(c) for c in chunks]
    # Padding and masked tokens are counted as if they were kept.
    # Beside the three ahead there is one in the thread's hand, and one in use.
    assert all(each * 5 * 96 == counts.ahead_bytes(3) for each in held)


@pytest.mark.parametrize(("n_ahead", "left"), [(0, 40.0), (1, 30.0), (2, 20.0), (4, 10.0), (8, 10.0)])
def test_of_each_block_what_is_made_ahead_goes_on_beside_the_steps(n_ahead, left):
    """Four batches fill a block; nothing hides behind more than there are steps."""
    counts = _counts(shuffle={"block_tokens": 256}, data={"batch_tokens": 64})
    parts = beside(counts, {"harvest": 40.0, "steps": 30.0, "checkpoints": 1.0}, n_ahead)
    assert parts == {"harvest": left, "steps": 30.0, "checkpoints": 1.0}
