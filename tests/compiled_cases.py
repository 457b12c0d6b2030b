"""Cases of the compiled forward pass, run in a process of their own: torch cannot trace through checks of shapes.

Prints one JSON object. With a back end's name as argument that one compiles; by default what is traced runs plainly.
"""

import json
import sys
import tempfile
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from unittest.mock import patch

import torch

from interp.activations.collect import CollectConfig, collect
from interp.activations.harvest import Harvest, HarvestConfig
from interp.activations.spread import SpreadHarvest
from interp.activations.store import StoredActivations
from interp.compiled import CompiledCapture
from interp.distributed import ALONE
from interp.errors import ConfigError, ModelError
from interp.hooks import capture
from interp.storage import read_tensors
from saes.training import TrainConfig, train
from tests.families import save_model, tiny_model, tiny_tokens
from tests.specimens import tiny_stream
from tests.texts import tiny_texts, write_jsonl

# A projection's columns, an input that two modules read, and the stream itself.
HOOKS = ("blocks.0.attn.hook_q", "blocks.0.hook_resid_mid", "blocks.0.hook_resid_post")
LAST = HOOKS[-1:]


def apart(found, expected, rows=slice(None)):
    """The largest difference, or -1 where other hooks were given."""
    if list(found) != list(expected):
        return -1.0
    return max(float((found[hook][rows] - x[rows]).abs().max()) for hook, x in expected.items())


def shapes(backend):
    model = tiny_model("llama")
    read = CompiledCapture(model, HOOKS, backend=backend)
    tokens = [tiny_tokens(*shape) for shape in ((3, 11), (4, 9), (2, 20))]
    found = [apart(read(each), capture(model, each, HOOKS)) for each in tokens]
    # What is given may be changed.
    for x in read(tokens[0]).values():
        x.zero_()
    found.append(apart(read(tokens[0]), capture(model, tokens[0], HOOKS)))
    hooked = any(module._forward_hooks or module._forward_pre_hooks for module in model.hf.modules())
    n_blocks = len(model.hf.get_submodule(model.paths.blocks))
    return {"apart": max(found), "n_graphs": read.n_graphs, "hooked": hooked, "n_blocks": n_blocks}


def packed(backend):
    model, tokens = tiny_model("llama"), tiny_tokens(2, 12)
    positions = torch.cat([torch.arange(5), torch.arange(7)]).expand(2, -1).contiguous()
    expected = capture(model, tokens, LAST, position_ids=positions)
    seen = apart(capture(model, tokens, LAST), expected)
    return {
        "apart": apart(CompiledCapture(model, LAST, backend=backend)(tokens, None, positions), expected),
        "without": seen,
    }


def encoder(backend):
    model, tokens, mask = tiny_model("bert"), tiny_tokens(3, 8), torch.ones(3, 8, dtype=torch.int64)
    mask[0, 5:] = 0
    expected = capture(model, tokens, LAST, attention_mask=mask)
    found = CompiledCapture(model, LAST, backend=backend)(tokens, mask)
    return {"apart": apart(found, expected, mask.bool())}


def untraceable(backend):
    model = tiny_model("gpt2")
    block = next(model.hf.get_submodule(model.paths.blocks).children())
    inner = block.mlp.forward

    def asks_the_host(x):
        print(float(x.sum()), file=sys.stderr)
        return inner(x)

    block.mlp.forward = asks_the_host
    try:
        CompiledCapture(model, LAST, backend=backend)(tiny_tokens())
    except ConfigError as error:
        return {"told": str(error)}
    return {"told": ""}


def changing(change):
    """A back end that runs what was traced, and changes what it gives."""
    return lambda graph, _inputs: lambda *given: tuple(change(x) for x in graph(*given))


def told_of(model, change, tokens, keep=None):
    """What the comparison says of a forward pass that gives changed activations."""
    try:
        CompiledCapture(model, LAST, backend=changing(change))(tokens, keep=keep)
    except ModelError as error:
        return str(error)
    return ""


def rows(at, factor):
    """Positions multiplied by a factor."""

    def change(x):
        x = x.clone()
        x[:, at] *= factor
        return x

    return change


def wrong(_backend):
    plain, sunk = tiny_model("gpt2"), tiny_model("gpt2")
    with torch.no_grad():
        # Position 0 gets the norm that attention sinks have.
        sunk.hf.transformer.wpe.weight[0] *= 3000
    sunk.hf.bfloat16()
    tokens, kept = tiny_tokens(20, 12), torch.ones(20, 12, dtype=torch.bool)
    norms = capture(sunk, tokens, LAST)[LAST[0]].float().norm(dim=2)
    kept[:, 3:] = False
    return {
        "all": told_of(plain, lambda x: 1.01 * x, tokens),
        "sink": float(norms[:, 0].min() / norms[:, 1:].max()),
        "beside a sink": told_of(sunk, rows(slice(1, None), 0.5), tokens),
        "with a sink": told_of(sunk, lambda x: x, tokens),
        "padding": told_of(plain, rows(slice(3, None), 0.5), tokens, kept),
        "all but padding": told_of(plain, rows(slice(3), 0.5), tokens, kept),
        "one token of 240": told_of(plain, one_token, tokens),
        "rounding of few": told_of(sunk, rows(slice(4, 5), 1.15), tokens),
        "more than rounding of few": told_of(sunk, rows(slice(4, 5), 1.3), tokens),
        "nothing kept": told_of(plain, lambda x: 2 * x, tokens, torch.zeros_like(kept)),
    }


def one_token(x):
    x = x.clone()
    x[3, 4] += 0.0015 * x[3, 4].norm()
    return x


def limit(backend):
    """One graph is allowed, and a second one asked for."""
    model, tokens = tiny_model("llama"), tiny_tokens(2, 12)
    read = CompiledCapture(model, LAST, backend=backend)
    read(tokens)
    try:
        with torch._dynamo.config.patch(recompile_limit=1):
            read(tokens, None, torch.arange(12).expand(2, -1).contiguous())
    except ConfigError as error:
        return {"told": str(error)}
    return {"told": ""}


class Counted:
    """A back end that runs what was traced, times a factor that the comparison lets pass, and counts the passes."""

    def __init__(self):
        self.n_passes = 0

    def __call__(self, graph, _inputs):
        def run(*given):
            self.n_passes += 1
            return tuple(FACTOR * x for x in graph(*given))

        return run


FACTOR = 1.0005
COMPILED = HarvestConfig(compile=True)


def compiled_by(backend):
    return patch("interp.activations.harvest.CompiledCapture", partial(CompiledCapture, backend=backend))


def first(source, n):
    with closing(source.iter_from({})) as chunks:
        return [batch.acts[LAST[0]] for _, batch in islice(chunks, n)]


def settings(folder):
    save_model(tiny_model("llama"), folder / "model")
    write_jsonl(folder / "texts.jsonl", tiny_texts(60))
    data = {"context_size": 16, "batch_tokens": 128}
    return {"model": str(folder / "model"), "dataset": str(folder / "texts.jsonl"), "device": "cpu", "data": data}


def harvested(_backend):
    """Largest difference of compiled activations from FACTOR times the plain ones, by who harvests."""
    with tempfile.TemporaryDirectory() as name, compiled_by(Counted()):
        folder, model = Path(name), tiny_model("llama")
        stream = tiny_stream(folder, model)
        plain = first(Harvest(model, stream, LAST), 6)
        sources = {
            "harvest": Harvest(model, stream, LAST, COMPILED),
            "ranks": SpreadHarvest(model, stream, LAST, ALONE, COMPILED),
        }
        found = {name: first(source, 6) for name, source in sources.items()}
        stores = []
        for how in (False, True):
            to = {"hooks": LAST, "tokens": 300, "out": str(folder / str(how)), "harvest": {"compile": how}}
            collect(CollectConfig.parse(settings(folder) | to))
            stores.append(torch.cat(first(StoredActivations(folder / str(how), hooks=LAST), 1)))
    apart = {
        name: max(float((a - FACTOR * b).abs().max()) for a, b in zip(x, plain, strict=True))
        for name, x in found.items()
    }
    return apart | {"collect": float((stores[1] - FACTOR * stores[0]).abs().max())}


def trained(_backend):
    """How many compiled passes a run made, and which of its weights another end has that was gone on with."""
    counted = Counted()
    with compiled_by(counted):
        return {"differing": _gone_on(), "n_passes": counted.n_passes}


def _gone_on():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = {
            "hook": LAST[0], "tokens": 1280, "batch_size": 64, "sae": {"d_sae": 32, "k": 4}, "out": str(folder / "run"),
            "shuffle": {"block_tokens": 256}, "recording": {"checkpoint_every": 7, "keep_checkpoints": 3},
            "harvest": {"compile": True},
        }  # fmt: skip
        config = TrainConfig.parse(settings(folder) | run)
        weights = folder / "run" / "sae" / "sae_weights.safetensors"
        train(config)
        whole = read_tensors(weights)
        weights.unlink()
        train(config, resume_from="step_7")
        again = read_tensors(weights)
    return sorted(name for name in whole.keys() | again.keys() if not whole[name].equal(again[name]))


def resumed(_backend):
    """As `trained`, by the back end that runs use."""
    return {"differing": _gone_on()}


def precision(backend):
    """Errors against float64, of compiled and of plain passes, over the norm."""
    exact, found = tiny_model("llama"), {}
    hooks = (*HOOKS, *(f"blocks.{block}.{hook}" for block in (0, 1) for hook in ("hook_attn_out", "attn.hook_z")))
    exact.hf.double()
    for dtype in (torch.float32, torch.bfloat16):
        model, tokens = tiny_model("llama"), tiny_tokens(20, 12)
        model.hf.to(dtype)
        truth, plain = capture(exact, tokens, hooks), capture(model, tokens, hooks)
        read = CompiledCapture(model, hooks, backend=backend)(tokens)
        pairs = [[float((x[h] - truth[h]).norm() / truth[h].norm()) for x in (read, plain)] for h in hooks]
        found[str(dtype)] = pairs
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    names, given = (precision, resumed), sys.argv[1:]
    if not given:
        names, given = (shapes, packed, encoder, untraceable, wrong, limit, harvested, trained), ["eager"]
    print(json.dumps({case.__name__: case(given[0]) for case in names}))
