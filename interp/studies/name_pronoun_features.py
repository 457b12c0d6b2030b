"""Which features carry a name's gender to the pronoun: chosen by attribution, judged by ablation and steering.

Axes: p prompts, t position, n reached tokens, d width, f features, m chosen features, r control sets.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from interp.code import FeatureDictionary
from interp.code_edits import ablate_features
from interp.directions import Direction
from interp.effects import Estimate, mean_effect
from interp.feature_edits import feature_edit, single_hook
from interp.forward import gradients_at, last_outputs
from interp.models import Model
from interp.outcomes import LOGIT_DIFFERENCE
from interp.steering import SteeringScene
from interp.studies.matched_features import FeatureTraits, matched_sets
from interp.studies.name_pronoun_prompts import NAME, NamedPrompts


@dataclass(frozen=True, slots=True)
class Chosen:
    """Features by how much they push towards the right pronoun on training prompts, strongest first.

    Shapes: features, attribution, difference (m,); difference is the mean activation on male names less that on female
    ones, at the tokens from the name on. traits are measured at those tokens.
    """

    features: Int[Tensor, " m"]
    attribution: Float[Tensor, " m"]
    difference: Float[Tensor, " m"]
    traits: FeatureTraits
    reached: Float[Tensor, "n d"]

    def first(self, n: int) -> Int[Tensor, " _"]:
        """The n strongest."""
        return self.features[:n]


def choose_features(model: Model, dictionary: FeatureDictionary, train: NamedPrompts, most: int) -> Chosen:
    """Attribution at the tokens from the name on: activation times gradient along the decoder row, signed by gender."""
    hook = single_hook(dictionary)
    keep = scene_of(model, hook, train).keep
    found = gradients_at(model, train.prompts, [hook], lambda out: LOGIT_DIFFERENCE(out, train.prompts))
    acts, grads = found.acts[hook][keep], found.grads[hook][keep]
    with torch.no_grad():
        code = dictionary.encode(acts).dense()
        every = dictionary.directions(torch.arange(dictionary.d_sae))
        sign = torch.from_numpy(train.sign).float()
        signs = sign[:, None].expand_as(keep)[keep]
        attribution = (code * (grads @ every.T) * signs[:, None]).sum(0) / len(train.prompts)
        difference = code[signs > 0].mean(0) - code[signs < 0].mean(0)
    top = attribution.topk(most)
    return Chosen(top.indices, top.values, difference[top.indices], FeatureTraits.of(dictionary, acts), acts.detach())


def scene_of(model: Model, hook: str, named: NamedPrompts) -> SteeringScene:
    """Prompts that are edited from the name's last token on."""
    return SteeringScene.of(model, hook, named.prompts, LOGIT_DIFFERENCE, position=NAME, onwards=True)


@dataclass(frozen=True, slots=True)
class Ablation:
    """What is left of the pronoun without the features, their error kept.

    Units: logits towards the right pronoun. change is the mean over prompts, controls (r,) that of matched sets; gap is
    the features' change less the controls' mean, prompt by prompt.
    """

    n_features: int
    before: Estimate
    change: Estimate
    gap: Estimate
    controls: Float[ndarray, " r"]

    @property
    def p(self) -> float:
        """Share of matched sets that take away at least as much, the features counted in."""
        return float((1 + (self.controls <= float(self.change.value)).sum()) / (1 + self.controls.shape[0]))


def ablate(
    scene: SteeringScene,
    dictionary: FeatureDictionary,
    test: NamedPrompts,
    chosen: Chosen,
    n: int,
    n_controls: int,
    seed: int,
) -> Ablation:
    """Take the n strongest features out of held-out prompts, and matched random ones."""
    sets = [chosen.first(n), *matched_sets(chosen.traits, chosen.first(n), n_controls, seed=seed)]
    changes = np.stack([_without(scene, dictionary, held) * test.sign for held in sets])
    names = test.prompts.clusters.numpy()
    before = scene.unsteered.double().numpy() * test.sign
    return Ablation(
        n,
        mean_effect(before, names),
        mean_effect(changes[0], names),
        mean_effect(changes[0] - changes[1:].mean(0), names),
        changes[1:].mean(1),
    )


@torch.no_grad()
def _without(scene: SteeringScene, dictionary: FeatureDictionary, features: Int[Tensor, " m"]) -> Float[ndarray, " p"]:
    edit = feature_edit(dictionary, ablate_features(*features.tolist()), scene.keep)
    outputs = last_outputs(scene.model, scene.prompts, {scene.hook: edit}, stem=scene.stem)
    return np.asarray((scene.outcome(outputs, scene.prompts) - scene.unsteered).double().cpu().numpy())


def swap_direction(dictionary: FeatureDictionary, chosen: Chosen, n: int) -> Direction:
    """What the n features write on male names less what they write on female ones; strength 1 is all of it."""
    rows = dictionary.directions(chosen.first(n)).detach()
    return Direction(single_hook(dictionary), chosen.difference[:n] @ rows, f"{n} features, male − female", "features")


def swap_controls(
    dictionary: FeatureDictionary, chosen: Chosen, n: int, n_controls: int, seed: int
) -> Float[Tensor, "r d"]:
    """The same sums of other features, drawn to fire as often and write as much."""
    sets = matched_sets(chosen.traits, chosen.first(n), n_controls, seed=seed)
    return torch.stack([chosen.difference[:n] @ dictionary.directions(held).detach() for held in sets])


def right(named: NamedPrompts, scene: SteeringScene) -> Bool[ndarray, " p"]:
    """Prompts on which the model prefers the name's own pronoun."""
    return np.asarray(scene.unsteered.double().numpy() * named.sign > 0)
