"""Circuits of plain components: the embedding, heads and MLPs, ranked by integrated gradients, tested by ablation.

Axes: n nodes, p prompt pairs.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from interp.attribution import as_float64
from interp.circuits import OUTCOME, Circuit, CircuitEdge, CircuitNode
from interp.components import Component, block_components, write_part
from interp.edge_attribution import EMBED, LOGITS, edge_attribution
from interp.effects import EffectGrid, Estimate, ratio_effect
from interp.faithfulness import N_RANDOM, FaithfulnessCurve, Ranking, Scale, faithfulness_curve
from interp.forward import last_outputs
from interp.hooks import Edit
from interp.integrated_gradients import INPUT, integrated_gradients
from interp.models import Model
from interp.outcomes import Outcome
from interp.prompts import PromptPairs
from interp.two_runs import TwoRuns, seen

N_STEPS = 10


def circuit_components(model: Model) -> list[Component]:
    """What such a circuit is made of: the embedding, every head, every MLP."""
    return [Component("residual", INPUT), *block_components(model, "head"), *block_components(model, "mlp")]


class PartsKept:
    """Outcomes of the clean prompts when only some components do what they do; the others say what they say on the
    corrupt prompts.

    Kept components are computed in the pass itself. Shapes: `full`, `empty` of the scale (p,).
    """

    def __init__(self, model: Model, pairs: PromptPairs, outcome: Outcome) -> None:
        self.model, self.outcome = model, outcome
        self.runs = TwoRuns.of(pairs, "noising")
        self.components = circuit_components(model)
        hooks = list(dict.fromkeys(component.hook for component in self.components))
        self.corrupt = seen(model, self.runs.source, hooks, outcome, pairs.clean).acts
        n = len(self.components)
        full, empty = self(np.ones(n, dtype=bool)), self(np.zeros(n, dtype=bool))
        self.scale = Scale(full, empty, pairs.clean.clusters.numpy())

    @torch.no_grad()
    def __call__(self, kept: Bool[ndarray, " n"]) -> Float[ndarray, " p"]:
        away: dict[str, list[slice]] = {}
        for component, stays in zip(self.components, kept, strict=True):
            if not stays:
                away.setdefault(component.hook, []).append(component.columns(self.model))
        edits = {hook: self._replacing(hook, columns) for hook, columns in away.items()}
        return as_float64(self.outcome(last_outputs(self.model, self.runs.changed, edits), self.runs.judged))

    def _replacing(self, hook: str, parts: Sequence[slice]) -> Edit:
        def replace(x: Tensor) -> Tensor:
            for columns in parts:
                x = write_part(x, self.corrupt[hook][:, :, columns], columns, None)
            return x

        return replace


def component_circuit(
    model: Model,
    pairs: PromptPairs,
    outcome: Outcome,
    *,
    n_steps: int = N_STEPS,
    node_threshold: float = 0.02,
    edge_threshold: float = 0.01,
) -> Circuit:
    """Components whose effect passes the threshold, each ablated for real too, with the edges between them (EAP-IG).

    A head's edges to another's queries, keys and values are told as one. Source: Hanna et al. 2024 (arXiv 2403.17806).
    """
    parts = PartsKept(model, pairs, outcome)
    scores = _scores(model, pairs, outcome, n_steps)
    nodes = []
    for index, component in enumerate(parts.components):
        if abs(scores.effect[index, 0]) >= node_threshold:
            nodes.append(_node(model, component, scores, index, _ablated(parts, index)))
    edges = _edges(edge_attribution(model, pairs, outcome, direction="noising", n_steps=n_steps), nodes, edge_threshold)
    return Circuit(
        nodes=tuple(sorted(nodes, key=lambda node: -abs(node.effect))),
        edges=tuple(edges),
        outcome=outcome.name,
        units=outcome.units,
        baseline="corrupt prompts",
        method=f"integrated gradients along the input, {n_steps} steps (EAP-IG)",
        n_prompts=len(pairs),
        n_candidates=len(parts.components),
        node_threshold=node_threshold,
        edge_threshold=edge_threshold,
        reference={"clean": float(parts.scale.full.mean()), "empty": float(parts.scale.empty.mean())},
        provenance={"model": model.facts},
    )


def component_curve(
    model: Model,
    found_on: PromptPairs,
    heldout: PromptPairs,
    outcome: Outcome,
    *,
    n_steps: int = N_STEPS,
    n_random: int = N_RANDOM,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> FaithfulnessCurve:
    """Faithfulness of the components ranked on some pairs, on others; random circuits match the layer of each."""
    parts = PartsKept(model, heldout, outcome)
    effect = _scores(model, found_on, outcome, n_steps).effect[:, 0]
    group = np.array([0 if c.hook == INPUT else 1 + (model.hook(c.hook).layer or 0) for c in parts.components])
    ranking = Ranking.by_size(effect, group, np.ones(len(group), dtype=bool))
    return faithfulness_curve(
        parts,
        ranking,
        parts.scale,
        arm="heads and MLPs",
        n_random=n_random,
        seed=seed,
        on_progress=on_progress,
    )


def _scores(model: Model, pairs: PromptPairs, outcome: Outcome, n_steps: int) -> EffectGrid:
    components = circuit_components(model)
    return integrated_gradients(model, pairs, components, outcome, direction="noising", path="input", n_steps=n_steps)


def _ablated(parts: PartsKept, index: int) -> Estimate:
    kept = np.ones(len(parts.components), dtype=bool)
    kept[index] = False
    scale = parts.scale
    return ratio_effect(parts(kept) - scale.full, scale.empty - scale.full, scale.clusters)


def component_name(component: Component, layer: int | None) -> str:
    """Short names, those of edge attribution: embed, a0.h3, m2."""
    if component.kind == "residual":
        return EMBED
    return f"a{layer}.h{component.index}" if component.kind == "head" else f"m{layer}"


def _node(model: Model, component: Component, scores: EffectGrid, index: int, ablation: Estimate) -> CircuitNode:
    layer, interval = model.hook(component.hook).layer, scores.interval
    kind = {"residual": "embedding", "head": "head", "mlp": "mlp"}[component.kind]
    measured = ablation.interval
    return CircuitNode(
        name=component_name(component, layer),
        kind=kind,
        hook=component.hook,
        index=component.index,
        layer=-1 if kind == "embedding" or layer is None else layer,
        effect=float(scores.effect[index, 0]),
        interval=None if interval is None else (float(interval[0, index, 0]), float(interval[1, index, 0])),
        ablation=float(ablation.value),
        ablation_interval=None if measured is None else (float(measured[0]), float(measured[1])),
    )


def _edges(grid: EffectGrid, nodes: Sequence[CircuitNode], threshold: float) -> list[CircuitEdge]:
    names = {node.name for node in nodes}
    total: dict[tuple[str, str], float] = {}
    for s, source in enumerate(grid.axes[0].labels):
        for d, destination in enumerate(grid.axes[1].labels):
            target = OUTCOME if destination == LOGITS else destination.removesuffix(".q")
            target = target.removesuffix(".k").removesuffix(".v")
            effect = float(grid.effect[s, d])
            if source in names and (target in names or target == OUTCOME) and np.isfinite(effect):
                total[source, target] = total.get((source, target), 0.0) + effect
    edges = [CircuitEdge(*ends, effect) for ends, effect in total.items() if abs(effect) >= threshold]
    return sorted(edges, key=lambda edge: -abs(edge.effect))
