"""Tokens per second of harvesting, beside a plain Hugging Face forward stopped at the same layer.

    python benchmarks/harvest.py --model FOLDER --rounds 20

The arms run in turn, in an order that rotates each round, on the same full rows of random tokens:
  plain    the bare forward pass, left by an exception from one hook at that layer
  capture  interp.hooks.capture
  harvest  interp.activations.harvest.harvest_batch: capture, gather the kept tokens, check that they are finite
  compiled interp.compiled.CompiledCapture, once it is compiled (with --compiled)
  bridge   TransformerLens's run_with_cache with that one name and stop_at_layer
Ratios are medians over rounds of each arm's speed divided by the plain arm's speed in the same round. The last line
is one JSON object.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping

import torch
import transformers

from interp.activations.harvest import harvest_batch
from interp.compiled import CompiledCapture
from interp.datasets import TokenBatch
from interp.errors import InterpError
from interp.hooks import capture
from interp.models import Model, load_model


class _Stop(Exception):
    pass


def plain_forward(model: Model, token_ids: torch.Tensor, hook: str) -> torch.Tensor:
    """What anybody would write by hand: one forward hook that keeps the tensor and leaves."""
    point = model.hook(hook)
    module = model.hf.get_submodule(point.module_path)
    kept: list[torch.Tensor] = []

    def leave(_module: torch.nn.Module, _args: object, output: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
        kept.append(output[0] if isinstance(output, tuple) else output)
        raise _Stop

    handle = module.register_forward_hook(leave)
    try:
        with torch.no_grad():
            model.hf(token_ids, use_cache=False)
    except _Stop:
        return kept[0]
    finally:
        handle.remove()
    raise AssertionError(f"{hook} never ran")


def bridge_forward(model: Model, token_ids: torch.Tensor, hook: str) -> torch.Tensor:
    """TransformerLens's own way, told to stop after the block."""
    layer = model.hook(hook).layer
    stop = None if layer is None else layer + 1
    with torch.no_grad():
        _, cache = model.bridge.run_with_cache(token_ids, names_filter=hook, stop_at_layer=stop)
    kept: torch.Tensor = cache[hook]
    return kept


def full_rows(model: Model, n_rows: int, n_positions: int) -> TokenBatch:
    """Random tokens without padding; the first of each row is left out, as BOS would be."""
    token_ids = torch.randint(model.d_vocab, (n_rows, n_positions), generator=torch.Generator().manual_seed(0))
    keep = torch.ones_like(token_ids, dtype=torch.bool)
    keep[:, 0] = False
    positions = torch.arange(n_positions).expand_as(token_ids)
    document = torch.arange(n_rows)[:, None].expand_as(token_ids)
    return TokenBatch(token_ids, keep, None, positions, document).to(model.device)


def seconds_of(arm: Callable[[], object], device: torch.device) -> float:
    started = time.perf_counter()
    arm()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def interleaved(arms: Mapping[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of every arm in every round, after one round of warming up."""
    names = list(arms)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for index in range(-1, rounds):
        for name in names[index % len(names) :] + names[: index % len(names)]:
            took = seconds_of(arms[name], device)
            if index >= 0:
                seconds[name].append(took)
    return seconds


def measure(
    model: Model, hook: str, batch: TokenBatch, rounds: int, *, with_bridge: bool, with_compiled: bool = False
) -> dict[str, object]:
    """Medians of tokens per second and of the ratios to the plain forward."""
    arms: dict[str, Callable[[], object]] = {
        "plain": lambda: plain_forward(model, batch.token_ids, hook),
        "capture": lambda: capture(model, batch.token_ids, [hook]),
        "harvest": lambda: harvest_batch(model, batch, [hook]),
    }
    if with_compiled:
        compiled = CompiledCapture(model, [hook])
        arms["compiled"] = lambda: compiled(batch.token_ids)
    if with_bridge:
        arms["bridge"] = lambda: bridge_forward(model, batch.token_ids, hook)
    seconds = interleaved(arms, rounds, model.device)
    n_tokens = batch.token_ids.numel()
    result: dict[str, object] = {
        f"{name}_tokens_per_s": round(n_tokens / statistics.median(taken)) for name, taken in seconds.items()
    }
    for name in arms:
        if name != "plain":
            pairs = zip(seconds["plain"], seconds[name], strict=True)
            result[f"{name}_ratio"] = round(statistics.median(plain / own for plain, own in pairs), 4)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded", help="embedded, a folder or a hub name")
    parser.add_argument("--hook", help="a residual or output hook (default: resid_post of the middle block)")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--positions", type=int, default=256, help="tokens per row, at most the model's context")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--compiled", action="store_true", help="measure the compiled forward pass too")
    parser.add_argument("--no-bridge", action="store_true", help="leave TransformerLens out")
    given = parser.parse_args()
    model = load_model(given.model, device=given.device, dtype=given.dtype)
    hook = given.hook or f"blocks.{model.n_layers // 2}.hook_resid_post"
    if model.hook(hook).side != "out" or model.hook(hook).columns is not None:
        raise SystemExit(f"{hook}: choose a hook at the output of a whole module, such as hook_resid_post")
    batch = full_rows(model, given.rows, min(given.positions, model.context_size))
    arms = {"with_bridge": not given.no_bridge, "with_compiled": given.compiled}
    result = measure(model, hook, batch, given.rounds, **arms)
    setting = {
        "model": model.name,
        "hook": hook,
        "shape": list(batch.token_ids.shape),
        "rounds": given.rounds,
        "device": str(model.device),
        "dtype": given.dtype,
        "threads": torch.get_num_threads(),
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
    }
    print(json.dumps(result | setting))


if __name__ == "__main__":
    try:
        main()
    except InterpError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
