"""Edge attribution patching: what each head, MLP or the embedding tells each later one through the residual stream.

Axes: b pairs, t position, d d_model, s sources, e destinations.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp.attribution import as_float64
from interp.effects import Axis, EffectGrid, near_zero, ratio_effect
from interp.errors import ConfigError
from interp.forward import Gradients, gradients_at
from interp.hooks import Edit
from interp.integrated_gradients import INPUT, between, steps
from interp.models import Model
from interp.outcomes import Outcome
from interp.prompts import PromptPairs
from interp.two_runs import Direction, Seen, TwoRuns, seen

EMBED = "embed"
LOGITS = "logits"


@dataclass(frozen=True, slots=True)
class Source:
    """What writes into the residual stream: the embedding, a head, an MLP. `order` counts writes to the stream."""

    name: str
    hook: str
    order: int
    head: int | None = None


@dataclass(frozen=True, slots=True)
class Destination:
    """What reads the stream: a head's queries, keys or values, an MLP, or the end of the stream.

    `stream` is the hook where it reads; `norm` stands between, and `projections` (hook, columns) are its first maps.
    """

    name: str
    stream: str
    order: int
    norm: str | None = None
    projections: tuple[tuple[str, slice], ...] = ()


def sources_of(model: Model) -> list[Source]:
    """Everything that writes into the stream, in order.

    Raises: ConfigError where the stream is not a plain sum of heads and MLPs (see `check_additive`).
    """
    check_additive(model)
    found = [Source(EMBED, INPUT, -1)]
    for layer in range(model.n_layers):
        attention, mlp = _orders(model, layer)
        hook = f"blocks.{layer}.attn.hook_z"
        found += [Source(f"a{layer}.h{head}", hook, attention, head) for head in range(model.sizes.n_heads)]
        found.append(Source(f"m{layer}", f"blocks.{layer}.hook_mlp_out", mlp))
    return found


def destinations_of(model: Model) -> list[Destination]:
    """Everything that reads the stream, in order.

    Raises: ConfigError where the stream is not a plain sum of heads and MLPs (see `check_additive`).
    """
    check_additive(model)
    found = [d for layer in range(model.n_layers) for d in _of_block(model, layer)]
    last = model.n_layers - 1
    return [*found, Destination(LOGITS, f"blocks.{last}.hook_resid_post", 2 * model.n_layers)]


def _of_block(model: Model, layer: int) -> Iterator[Destination]:
    block, (attention, mlp) = f"blocks.{layer}", _orders(model, layer)
    stream = f"{block}.hook_resid_pre"
    for letter in "qkv":
        hook = f"{block}.attn.hook_{letter}"
        n_heads, width = model.hook(hook).head_shape or (1, model.hook(hook).width)
        for head in range(n_heads):
            part = (hook, slice(head * width, (head + 1) * width))
            yield Destination(f"a{layer}.h{head}.{letter}", stream, attention, f"{block}.ln1.hook_out", (part,))
    # Gated MLPs read the stream twice.
    names = [f"{block}.mlp.hook_pre", f"{block}.mlp.hook_pre_linear"]
    parts = tuple((name, slice(0, model.hooks[name].width)) for name in names if name in model.hooks)
    norm = f"{block}.ln2.hook_out" if f"{block}.ln2.hook_out" in model.hooks else f"{block}.ln1.hook_out"
    stream = f"{block}.hook_resid_mid" if f"{block}.hook_resid_mid" in model.hooks else stream
    yield Destination(f"m{layer}", stream, mlp, norm, parts)


def _orders(model: Model, layer: int) -> tuple[int, int]:
    """Places of a block's attention and MLP in the order of writes; the same where they run in parallel."""
    parallel = model.sizes.parallel or model.paths.parallel
    return 2 * layer, 2 * layer + (0 if parallel else 1)


def check_additive(model: Model) -> None:
    """Raises: ConfigError for encoders that normalise the stream itself, and where a norm follows attention's heads."""
    if model.paths.post_norm or not model.paths.z.startswith(f"{model.paths.attn_out}."):
        raise ConfigError(
            f"got {model.name} ({model.family}), whose residual stream is not a sum of its heads' outputs: a norm "
            "stands between; edges are defined for models without one; use attribution_patching on its components"
        )


def edge_attribution(
    model: Model,
    pairs: PromptPairs,
    outcome: Outcome,
    *,
    direction: Direction,
    n_steps: int | None = None,
    batch_size: int | None = None,
) -> EffectGrid:
    """Estimated effect of patching each edge: (source in the other run - in the changed one) · gradient at the reader.

    With `n_steps` the gradient is averaged along the input path (EAP-IG). What is no edge is not a number. Effects of
    all edges must not be summed: a path would be counted once for each of its edges. Those into `logits` are one cut.

    Units: share of the difference between the two runs, as a ratio of means over pairs.
    Raises: ConfigError where the stream is not a plain sum (see `check_additive`).
    Source: Syed et al. 2023 (EAP, arXiv 2310.10348); Hanna et al. 2024 (EAP-IG, arXiv 2403.17806).
    """
    sources, destinations = sources_of(model), destinations_of(model)
    effects, changed, other = [], [], []
    for runs in TwoRuns.of(pairs, direction).batches(batch_size):
        hooks = list(dict.fromkeys([INPUT, *(source.hook for source in sources)]))
        before = seen(model, runs.changed, hooks, outcome, runs.judged)
        after = seen(model, runs.source, hooks, outcome, runs.judged)
        gradients = _mean_gradients(model, runs, destinations, outcome, before, after, n_steps)
        change = torch.stack(list(_changes(model, sources, before, after)))
        effects.append(np.stack([as_float64((change * gradients[d.name]).sum((2, 3))) for d in destinations], axis=1))
        changed.append(as_float64(before.outcome))
        other.append(as_float64(after.outcome))
    return _grid(model, pairs, outcome, effects, changed, other, direction, n_steps)


def _grid(
    model: Model,
    pairs: PromptPairs,
    outcome: Outcome,
    effects: Sequence[np.ndarray],
    changed: Sequence[np.ndarray],
    other: Sequence[np.ndarray],
    direction: Direction,
    n_steps: int | None,
) -> EffectGrid:
    sources, destinations = sources_of(model), destinations_of(model)
    base, source = np.concatenate(changed), np.concatenate(other)
    found = ratio_effect(np.concatenate(effects, axis=2), source - base, pairs.clean.clusters.numpy())
    absent = np.array([[s.order >= d.order for d in destinations] for s in sources])
    clean, corrupt = (base, source) if direction == "noising" else (source, base)
    how = "" if n_steps is None else f" with integrated gradients, {n_steps} steps"
    return EffectGrid(
        (Axis("source", tuple(s.name for s in sources)), Axis("destination", tuple(d.name for d in destinations))),
        np.where(absent, np.nan, found.value),
        None if found.interval is None else np.where(absent, np.nan, found.interval),
        f"edge attribution patching{how}, {direction}",
        outcome.name,
        "share of the difference",
        len(pairs),
        {"clean": float(clean.mean()), "corrupt": float(corrupt.mean())},
        near_zero(source - base),
        {"model": model.facts},
    )


def _changes(model: Model, sources: Sequence[Source], before: Seen, after: Seen) -> Iterator[Float[Tensor, "b t d"]]:
    """What each source would add to the stream; a head by its own part of attention's output map."""
    for source in sources:
        change = after.acts[source.hook] - before.acts[source.hook]
        if source.head is None:
            yield change
            continue
        out = model.hf.get_submodule(model.hook(source.hook).module_path)
        yield head_output(out, change, source.head, model.sizes.d_head)


@torch.no_grad()
def head_output(out: nn.Module, z: Float[Tensor, "b t z"], head: int, d_head: int) -> Float[Tensor, "b t d"]:
    """What one head's part of z adds to the stream, without the map's bias."""
    only = torch.zeros_like(z)
    only[:, :, head * d_head : (head + 1) * d_head] = z[:, :, head * d_head : (head + 1) * d_head]
    found: Tensor = out(only) - out(torch.zeros_like(z))
    return found


def _mean_gradients(
    model: Model,
    runs: TwoRuns,
    destinations: Sequence[Destination],
    outcome: Outcome,
    before: Seen,
    after: Seen,
    n_steps: int | None,
) -> dict[str, Float[Tensor, "b t d"]]:
    if n_steps is not None and n_steps < 1:
        raise ConfigError(f"n_steps: got {n_steps}; expected at least 1, or None for plain edge attribution")
    places = [0.0] if n_steps is None else steps(n_steps)
    total: dict[str, Tensor] = {}
    for place in places:
        edits: Mapping[str, Edit] = {INPUT: between(before.acts[INPUT], after.acts[INPUT], place)}
        hooks = dict.fromkeys(h for d in destinations for h in (d.stream, *(name for name, _ in d.projections)))
        found = gradients_at(model, runs.changed, list(hooks), lambda out: outcome(out, runs.judged), edits)
        for destination in destinations:
            gradient = gradient_at_input(model, destination, found) / len(places)
            total[destination.name] = total.get(destination.name, 0) + gradient
    return total


def gradient_at_input(model: Model, destination: Destination, found: Gradients) -> Float[Tensor, "b t d"]:
    """Gradient with respect to what one destination reads from the stream, by no other way than through itself."""
    if destination.norm is None:
        return found.grads[destination.stream]
    norm = model.hf.get_submodule(model.hook(destination.norm).module_path)
    with torch.enable_grad():
        stream = found.acts[destination.stream].detach().requires_grad_()
        normed = norm(stream)
        parts = []
        for name, columns in destination.projections:
            point = model.hook(name)
            out = model.hf.get_submodule(point.module_path)(normed)
            out = out if point.columns is None else point.columns.read(out)
            parts.append((out[:, :, columns] * found.grads[name][:, :, columns]).sum())
        (gradient,) = torch.autograd.grad(torch.stack(parts).sum(), [stream])
    return gradient
