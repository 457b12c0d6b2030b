"""What each feature and each error does to the outcome, and what features do to one another, to first order.

Axes: b prompts, t position, o width of a written hook, f features of a site, n nodes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from interp.attribution import as_float64
from interp.feature_nodes import FeatureNodes
from interp.feature_sites import of_hooks
from interp.forward import gradients_at, last_outputs
from interp.hooks import Edit
from interp.integrated_gradients import steps
from interp.outcomes import Outcome


@dataclass(frozen=True, slots=True, order=True)
class Node:
    """A feature of the dictionary that writes a hook, or (feature None) the error that it leaves there."""

    hook: str
    feature: int | None

    def __str__(self) -> str:
        return f"{self.hook}/{'error' if self.feature is None else self.feature}"


@dataclass(frozen=True, slots=True)
class _Changes:
    """What ablation would change at each hook: features' values and the error, zero at tokens that are not read.

    Shapes: values[hook] (b, t, f); errors[hook] (b, t, o).
    """

    values: dict[str, Float[Tensor, "b t f"]]
    errors: dict[str, Float[Tensor, "b t o"]]


@torch.no_grad()
def _changes(nodes: FeatureNodes, acts: Mapping[str, Tensor]) -> _Changes:
    values, errors = {}, {}
    at = nodes.readable[:, :, None]
    for hook, site in nodes.sites.items():
        encoded = site.encoded(acts[site.reads])
        values[hook] = (nodes.baseline.values[hook] - encoded.values) * at
        errors[hook] = (nodes.baseline.errors[hook] - (acts[hook] - encoded.decoded)) * at
    return _Changes(values, errors)


@dataclass(frozen=True, slots=True)
class PromptEffects:
    """Estimated change of the outcome when one node is ablated, prompt by prompt, by written hook.

    Shapes: features[hook] (b, f); errors[hook] (b,); moved[hook] (f,): whether ablation changes the feature anywhere.
    Units: of the outcome.
    """

    features: dict[str, Float[ndarray, "b f"]]
    errors: dict[str, Float[ndarray, " b"]]
    moved: dict[str, ndarray]


def node_effects(nodes: FeatureNodes, outcome: Outcome, *, n_steps: int) -> PromptEffects:
    """Integrated gradients of every feature and error, along each hook's way from its activations to the baseline.

    Source: Marks et al. 2024 (arXiv 2403.19647), section 3.1; every token's effect is summed.
    """
    hooks = of_hooks(nodes.sites)
    objective = _objective(nodes, outcome)
    acts = gradients_at(nodes.model, nodes.prompts, hooks, objective).acts
    changes = _changes(nodes, acts)
    features, errors, moved = {}, {}, {}
    for hook, site in nodes.sites.items():
        whole = changes.values[hook] @ site.rows + changes.errors[hook]
        gradient = torch.zeros_like(whole)
        for step in steps(n_steps):
            edits: dict[str, Edit] = {hook: _shifted(whole * step)}
            gradient += gradients_at(nodes.model, nodes.prompts, [hook], objective, edits).grads[hook] / n_steps
        features[hook] = as_float64(torch.einsum("btf,btf->bf", changes.values[hook], gradient @ site.rows.t()))
        errors[hook] = as_float64((changes.errors[hook] * gradient).sum((1, 2)))
        moved[hook] = (changes.values[hook] != 0).any(1).any(0).cpu().numpy()
    return PromptEffects(features, errors, moved)


def _objective(nodes: FeatureNodes, outcome: Outcome) -> Callable[[Tensor], Tensor]:
    return lambda outputs: outcome(outputs, nodes.prompts)


def _shifted(shift: Tensor) -> Edit:
    return lambda x: x + shift.to(x)


@dataclass(frozen=True, slots=True)
class PromptEdges:
    """Estimated effect of each edge on the outcome, prompt by prompt.

    Shapes: effect (b, sources, targets); the last target is the outcome itself; zero where there is no edge.
    """

    sources: tuple[Node, ...]
    targets: tuple[Node | None, ...]
    effect: Float[ndarray, "b s e"]


def edge_effects(nodes: FeatureNodes, outcome: Outcome, chosen: Sequence[Node]) -> PromptEdges:
    """Effect of ablating each node that goes directly to each other one, and from there to the outcome.

    For a target it is the gradient of the outcome at the target times the target's derivative by the source, with what
    stands at the hooks between held as it is, times the source's change: one product with the Jacobian a target. A
    source's edges to all features and errors of a hook that everything passes add up to its own first-order effect.

    Source: Marks et al. 2024 (arXiv 2403.19647), section 3.1.
    """
    weights = gradients_at(nodes.model, nodes.prompts, of_hooks(nodes.sites), _objective(nodes, outcome))
    changes = _changes(nodes, weights.acts)
    with torch.enable_grad():
        cut = _CutPass.run(nodes, outcome)
        targets: list[Node | None] = [*chosen, None]
        columns = [_column(nodes, cut, weights.grads, changes, target, chosen) for target in targets]
    return PromptEdges(tuple(chosen), tuple(targets), np.stack(columns, axis=2))


@dataclass(frozen=True, slots=True)
class _CutPass:
    """A pass in which every written hook begins a graph of its own: derivatives reach the next hooks and no further.

    Shapes: came[hook] (b, t, o): what came to a hook; leaves[hook]: the same, where graphs begin; values[hook]
    (b, t, f) and decoded[hook] (b, t, o): what its dictionary makes of it; outcome: summed.
    """

    came: dict[str, Tensor]
    leaves: dict[str, Tensor]
    values: dict[str, Tensor]
    decoded: dict[str, Tensor]
    outcome: Tensor

    @staticmethod
    def run(nodes: FeatureNodes, outcome: Outcome) -> "_CutPass":
        came: dict[str, Tensor] = {}
        left: dict[str, Tensor] = {}
        leaves: dict[str, Tensor] = {}

        def visited(hook: str) -> Edit:
            def visit(x: Tensor) -> Tensor:
                came[hook] = left[hook] = x
                if hook in nodes.sites:
                    leaves[hook] = x.detach().clone().requires_grad_()
                    left[hook] = leaves[hook] * 1
                return left[hook].clone()

            return visit

        outputs = last_outputs(nodes.model, nodes.prompts, {hook: visited(hook) for hook in of_hooks(nodes.sites)})
        # An SAE reads what comes to its hook; a transcoder what another site has left at the hook that it reads.
        encoded = {
            hook: site.encoded((came if site.reads == hook else left)[site.reads]) for hook, site in nodes.sites.items()
        }
        values = {hook: held.values for hook, held in encoded.items()}
        decoded = {hook: held.decoded for hook, held in encoded.items()}
        return _CutPass(came, leaves, values, decoded, outcome(outputs, nodes.prompts).sum())


def _column(
    nodes: FeatureNodes,
    cut: _CutPass,
    weights: Mapping[str, Tensor],
    changes: _Changes,
    target: Node | None,
    chosen: Sequence[Node],
) -> Float[ndarray, "b s"]:
    """Edges of all sources into one target."""
    order = list(nodes.sites)
    below = order if target is None else order[: order.index(target.hook)]
    scalar = cut.outcome if target is None else _weighed(nodes, cut, weights, target)
    leaves = [cut.leaves[hook] for hook in below]
    grads: Sequence[Tensor | None] = [None] * len(below)
    if leaves and scalar.requires_grad:
        grads = torch.autograd.grad(scalar, leaves, retain_graph=True, allow_unused=True)
    at = {hook: grad for hook, grad in zip(below, grads, strict=True) if grad is not None}
    none = np.zeros(len(nodes.prompts))
    found = [_along(nodes, changes, source, at[source.hook]) if source.hook in at else none for source in chosen]
    return np.stack(found, axis=1)


def _weighed(nodes: FeatureNodes, cut: _CutPass, weights: Mapping[str, Tensor], target: Node) -> Tensor:
    """The target as the pass computes it, each token weighed by the gradient of the outcome there."""
    gradient = weights[target.hook] * nodes.readable[:, :, None]
    if target.feature is None:
        return ((cut.came[target.hook] - cut.decoded[target.hook]) * gradient).sum()
    return (
        cut.values[target.hook][:, :, target.feature] * (gradient @ nodes.sites[target.hook].rows[target.feature])
    ).sum()


def _along(nodes: FeatureNodes, changes: _Changes, source: Node, gradient: Tensor) -> Float[ndarray, " b"]:
    """A source's change times the gradient where it writes."""
    if source.feature is None:
        return as_float64((changes.errors[source.hook] * gradient).sum((1, 2)))
    along = gradient @ nodes.sites[source.hook].rows[source.feature]
    return as_float64((changes.values[source.hook][:, :, source.feature] * along).sum(1))
