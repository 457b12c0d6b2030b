"""Cases of the compiled forward pass, run in a process of their own: torch cannot trace through checks of shapes.

Prints one JSON object. With a back end's name as argument that one compiles; by default what is traced runs plainly.
"""

import json
import sys

import torch

from interp.compiled import CompiledCapture
from interp.errors import ConfigError
from interp.hooks import capture
from tests.families import tiny_model, tiny_tokens

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


def precision(backend):
    """Errors against float64, of compiled and of plain passes, over the norm."""
    exact, found = tiny_model("llama"), {}
    exact.hf.double()
    for dtype in (torch.float32, torch.bfloat16):
        model, tokens = tiny_model("llama"), tiny_tokens(4, 9)
        model.hf.to(dtype)
        truth, plain = capture(exact, tokens, HOOKS), capture(model, tokens, HOOKS)
        read = CompiledCapture(model, HOOKS, backend=backend)(tokens)
        pairs = [[float((x[h] - truth[h]).norm() / truth[h].norm()) for x in (read, plain)] for h in HOOKS]
        found[str(dtype)] = pairs
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    names, given = (precision,), sys.argv[1:]
    if not given:
        names, given = (shapes, packed, encoder, untraceable), ["eager"]
    print(json.dumps({case.__name__: case(given[0]) for case in names}))
