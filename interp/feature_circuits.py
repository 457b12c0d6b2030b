"""Circuits of features: scored on some prompts, drawn as a graph, tested on others.

Axes: n nodes (all features of all sites, then one error a site), p prompts, f features of a site.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from interp.circuits import OUTCOME, Circuit, CircuitEdge, CircuitNode
from interp.effects import Estimate, ratio_effect
from interp.faithfulness import N_RANDOM, FaithfulnessCurve, Ranking, Scale, faithfulness_curve
from interp.feature_nodes import FeatureNodes, node_values
from interp.node_effects import Node, edge_effects, node_effects
from interp.outcomes import Outcome

N_STEPS = 10
N_VERIFIED = 30
N_TOKENS = 5
BATCH_SIZE = 64
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class NodeScores:
    """Every node with its estimated effect.

    Shapes: effect (n,); interval (2, n); group (n,): the site of each; moved (n,): whether ablation changes it.
    Units: share of what ablating every node takes away.
    """

    nodes: tuple[Node, ...]
    effect: Float[ndarray, " n"]
    interval: Float[ndarray, "2 n"] | None
    group: Int[ndarray, " n"]
    moved: Bool[ndarray, " n"]
    scale: Scale

    @property
    def is_feature(self) -> Bool[ndarray, " n"]:
        return np.array([node.feature is not None for node in self.nodes])

    def strongest(self, threshold: float) -> list[int]:
        """Numbers of the nodes whose effect reaches the threshold, strongest first."""
        order = np.argsort(-np.abs(self.effect), kind="stable")
        return [int(index) for index in order if abs(self.effect[index]) >= threshold]


def score_nodes(
    nodes: FeatureNodes, outcome: Outcome, *, n_steps: int = N_STEPS, batch_size: int = BATCH_SIZE
) -> NodeScores:
    """Attribution of every feature and every error at once."""
    scale = scale_of(nodes, outcome, batch_size=batch_size)
    pieces = [node_effects(part, outcome, n_steps=n_steps) for part in _parts(nodes, batch_size)]
    names, effects, moved, group = [], [], [], []
    for number, hook in enumerate(nodes.sites):
        features = np.concatenate([piece.features[hook] for piece in pieces])
        errors = np.concatenate([piece.errors[hook] for piece in pieces])
        names += [Node(hook, feature) for feature in range(features.shape[1])] + [Node(hook, None)]
        effects += [features.T, errors[None]]
        moved += [np.any([piece.moved[hook] for piece in pieces], axis=0), np.array([True])]
        group += [number] * (features.shape[1] + 1)
    found = ratio_effect(np.concatenate(effects), scale.empty - scale.full, scale.clusters)
    return NodeScores(tuple(names), found.value, found.interval, np.array(group), np.concatenate(moved), scale)


def scale_of(nodes: FeatureNodes, outcome: Outcome, *, batch_size: int = BATCH_SIZE) -> Scale:
    """Outcomes of the whole model and of one in which every node is ablated.

    Raises: ConfigError for an outcome that the model cannot be judged by.
    """
    outcome.check(nodes.model)
    full, empty = (
        outcome_of(nodes, outcome, nodes.all_kept(features=whole), errors=whole, batch_size=batch_size)
        for whole in (True, False)
    )
    return Scale(full, empty, nodes.prompts.clusters.numpy())


def outcome_of(
    nodes: FeatureNodes,
    outcome: Outcome,
    kept: Mapping[str, Tensor],
    *,
    errors: bool | Mapping[str, bool],
    batch_size: int = BATCH_SIZE,
) -> Float[ndarray, " p"]:
    """The outcome, prompt by prompt, when only these nodes are kept."""
    held = dict.fromkeys(nodes.sites, errors) if isinstance(errors, bool) else errors
    found = [part.outcome(outcome, kept, held) for part in _parts(nodes, batch_size)]
    return torch.cat(found).cpu().numpy()


def _parts(nodes: FeatureNodes, size: int) -> list[FeatureNodes]:
    n = len(nodes.prompts)
    return [nodes] if n <= size else [nodes.take(slice(at, at + size)) for at in range(0, n, size)]


def feature_circuit(
    nodes: FeatureNodes,
    scores: NodeScores,
    outcome: Outcome,
    *,
    node_threshold: float = 0.02,
    edge_threshold: float = 0.005,
    n_verified: int = N_VERIFIED,
    batch_size: int = BATCH_SIZE,
    on_progress: Progress | None = None,
) -> Circuit:
    """The graph of the nodes that pass the threshold, with the strongest ones ablated for real, and their edges.

    Thresholds are shares of what ablating every node takes away.
    """
    chosen = scores.strongest(node_threshold)
    measured = [
        _told(_ablated(nodes, scores, index, outcome, batch_size), "ablate", done, chosen[:n_verified], on_progress)
        for done, index in enumerate(chosen[:n_verified], start=1)
    ]
    tokens = _tokens(nodes)
    made = [
        _circuit_node(nodes, scores, index, measured[place] if place < len(measured) else None, tokens)
        for place, index in enumerate(chosen)
    ]
    return Circuit(
        nodes=tuple(made),
        edges=tuple(_edges(nodes, scores, outcome, chosen, edge_threshold, batch_size)),
        outcome=outcome.name,
        units=outcome.units,
        baseline=nodes.baseline.what,
        method="integrated gradients along each hook's activations",
        n_prompts=len(nodes.prompts),
        n_candidates=int(scores.moved.sum()),
        node_threshold=node_threshold,
        edge_threshold=edge_threshold,
        reference={"clean": float(scores.scale.full.mean()), "empty": float(scores.scale.empty.mean())},
        provenance={"model": nodes.model.facts},
    )


def _told(found: Estimate, stage: str, done: int, all_of: Sequence[int], tell: Progress | None) -> Estimate:
    if tell is not None:
        tell(stage, done, len(all_of))
    return found


def _ablated(nodes: FeatureNodes, scores: NodeScores, index: int, outcome: Outcome, batch_size: int) -> Estimate:
    """The true effect of ablating one node while every other stays."""
    node, kept = scores.nodes[index], nodes.all_kept(features=True)
    errors = {hook: not (node.feature is None and hook == node.hook) for hook in nodes.sites}
    if node.feature is not None:
        kept[node.hook][node.feature] = False
    found = outcome_of(nodes, outcome, kept, errors=errors, batch_size=batch_size)
    scale = scores.scale
    return ratio_effect(found - scale.full, scale.empty - scale.full, scale.clusters)


def _circuit_node(
    nodes: FeatureNodes,
    scores: NodeScores,
    index: int,
    ablation: Estimate | None,
    tokens: Callable[[Node], tuple[str, ...]],
) -> CircuitNode:
    node = scores.nodes[index]
    layer = nodes.model.hook(node.hook).layer
    return CircuitNode(
        name=str(node),
        kind="error" if node.feature is None else "feature",
        hook=node.hook,
        index=node.feature,
        layer=-1 if layer is None else layer,
        effect=float(scores.effect[index]),
        interval=None if scores.interval is None else _pair(scores.interval[:, index]),
        ablation=None if ablation is None else float(ablation.value),
        ablation_interval=None if ablation is None or ablation.interval is None else _pair(ablation.interval),
        tokens=tokens(node),
    )


def _pair(values: ndarray) -> tuple[float, float]:
    return float(values[0]), float(values[1])


def _tokens(nodes: FeatureNodes) -> Callable[[Node], tuple[str, ...]]:
    """A function from a node to the tokens on which it is most active on average, of those that the prompts hold."""
    values, _ = node_values(nodes.model, nodes.sites, nodes.prompts)
    ids = nodes.prompts.token_ids[nodes.readable.cpu()]
    unique, place = ids.unique(return_inverse=True)
    counts = torch.bincount(place, minlength=len(unique))

    def tokens(node: Node) -> tuple[str, ...]:
        if node.feature is None:
            return ()
        own = values[node.hook][nodes.readable][:, node.feature].cpu().float()
        means = torch.zeros(len(unique)).index_add_(0, place, own) / counts
        top = means.argsort(descending=True, stable=True)[:N_TOKENS]
        return tuple(str(nodes.model.tokenizer.decode([int(unique[i])])) for i in top if means[i] > 0)

    return tokens


def _edges(
    nodes: FeatureNodes,
    scores: NodeScores,
    outcome: Outcome,
    chosen: Sequence[int],
    threshold: float,
    batch_size: int,
) -> list[CircuitEdge]:
    if not chosen:
        return []
    order = list(nodes.sites)
    ends = sorted((scores.nodes[index] for index in chosen), key=lambda node: order.index(node.hook))
    found = [edge_effects(part, outcome, ends) for part in _parts(nodes, batch_size)]
    shares = np.concatenate([piece.effect for piece in found]).sum(0) / (scores.scale.empty - scores.scale.full).sum()
    edges = [
        CircuitEdge(str(source), OUTCOME if target is None else str(target), float(shares[s, t]))
        for s, source in enumerate(found[0].sources)
        for t, target in enumerate(found[0].targets)
        if abs(shares[s, t]) >= threshold
    ]
    return sorted(edges, key=lambda edge: -abs(edge.effect))


def feature_curves(
    nodes: FeatureNodes,
    scores: NodeScores,
    outcome: Outcome,
    *,
    sizes: Sequence[int] | None = None,
    random_sizes: Sequence[int] | None = None,
    n_random: int = N_RANDOM,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    on_progress: Progress | None = None,
) -> tuple[FaithfulnessCurve, FaithfulnessCurve]:
    """Faithfulness of circuits of features on prompts that they were not found on, with error nodes and without.

    With: the errors of all hooks are kept whatever the circuit, computed anew from what is left below. Without: they
    are ablated, so that features alone must do. Both are shares of the same difference, with everything ablated at 0
    and the model itself at 1.
    """
    scale = scale_of(nodes, outcome, batch_size=batch_size)
    features = scores.is_feature
    ranking = Ranking.by_size(scores.effect[features], scores.group[features], scores.moved[features])

    def measured(*, errors: bool) -> FaithfulnessCurve:
        def evaluate(kept: Bool[ndarray, " n"]) -> Float[ndarray, " p"]:
            masks = nodes.all_kept(features=False)
            start = 0
            for hook, mask in masks.items():
                masks[hook] = torch.from_numpy(kept[start : start + len(mask)].copy())
                start += len(mask)
            return outcome_of(nodes, outcome, masks, errors=errors, batch_size=batch_size)

        arm = "with error nodes" if errors else "without error nodes"
        return faithfulness_curve(
            evaluate,
            ranking,
            scale,
            arm=arm,
            sizes=sizes,
            random_sizes=random_sizes,
            n_random=n_random,
            seed=seed,
            on_progress=None if on_progress is None else lambda done, of: on_progress(arm, done, of),
        )

    return measured(errors=True), measured(errors=False)
