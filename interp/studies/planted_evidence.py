"""Whether patching, probing and an SAE find a planted rule where it was planted.

Axes: p prompts or pairs, d width, f features.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from sklearn.metrics import roc_auc_score
from torch import Tensor

from interp.code import FeatureDictionary
from interp.code_edits import ablate_features
from interp.components import write_part
from interp.directions import Direction, activations_at, covariance_matched
from interp.effects import EffectGrid, axis_of, mean_effect
from interp.feature_edits import feature_edit, single_hook
from interp.forward import last_outputs
from interp.hooks import Edit, capture
from interp.models import Model
from interp.outcomes import LOGIT_DIFFERENCE, PROBABILITY, Outcome
from interp.prompts import LAST, PromptPairs, Prompts
from interp.steering import SteeringScene, dose_response
from interp.studies.matched_features import FeatureTraits, matched_sets
from interp.studies.planted_organism import TRIGGER_PLACE
from interp.studies.planted_results import FeatureEvidence, PlantedArm
from probes.intervals import Score, Statistic, cluster_interval, mean_of
from probes.logistic import fit_logistic

STRENGTHS = (0.0, 1.0, 2.0)
"""Of the feature's mean activation at triggered cues."""
_PLACES = ((TRIGGER_PLACE, "trigger"), (LAST, "cue"))
_PATCHED_PAIRS, _STEERED_PAIRS = 60, 48


@dataclass(frozen=True, slots=True)
class PlantedText:
    """Pairs to choose by (training stories and words) and held-out ones to judge by."""

    choose: PromptPairs
    judge: PromptPairs
    judge_words: Int[ndarray, " two_p"]
    """Of the held-out clean prompts and then of the corrupt ones, which word each holds."""


def look_at(
    model: Model, name: str, text: PlantedText, dictionary: FeatureDictionary, *, n_controls: int, seed: int
) -> PlantedArm:
    """All evidence of one model."""
    judge = text.judge
    clean, corrupt = (_outcomes(model, side, LOGIT_DIFFERENCE) for side in (judge.clean, judge.corrupt))
    stories = judge.clean.clusters.numpy()
    triggered, untriggered = (
        cluster_interval(mean_of(_outcomes(model, side, PROBABILITY)), stories) for side in (judge.clean, judge.corrupt)
    )
    return PlantedArm(
        name,
        triggered,
        untriggered,
        cluster_interval(mean_of(clean - corrupt), stories),
        patched_places(model, judge.take(slice(0, _PATCHED_PAIRS))),
        tuple(_probe(model, layer, text) for layer in range(model.n_layers)),
        feature_evidence(model, text, dictionary, n_controls=n_controls, seed=seed),
    )


@torch.no_grad()
def _outcomes(model: Model, prompts: Prompts, outcome: Outcome, edits: dict[str, Edit] | None = None) -> ndarray:
    found: ndarray = outcome(last_outputs(model, prompts, edits), prompts).double().cpu().numpy()
    return found


def patched_places(model: Model, pairs: PromptPairs) -> EffectGrid:
    """Denoising in logits, not as a share: in the twin there is nothing to take a share of."""
    kinds = (("resid_post", "hook_resid_post"), ("attention", "hook_attn_out"), ("MLP", "hook_mlp_out"))
    hooks = {f"{label} {i}": f"blocks.{i}.{suffix}" for label, suffix in kinds for i in range(model.n_layers)}
    clean = capture(model, pairs.clean.token_ids, list(hooks.values()))
    base = _outcomes(model, pairs.corrupt, LOGIT_DIFFERENCE)
    effects = np.stack(
        [
            [
                _outcomes(model, pairs.corrupt, LOGIT_DIFFERENCE, {hook: _patch(clean[hook], pairs.clean, place)})
                - base
                for place, _ in _PLACES
            ]
            for hook in hooks.values()
        ]
    )
    found = mean_effect(effects, pairs.clean.clusters.numpy())
    return EffectGrid(
        (axis_of("component", list(hooks)), axis_of("place", [label for _, label in _PLACES])),
        found.value,
        found.interval,
        "activation patching, denoising",
        LOGIT_DIFFERENCE.name,
        LOGIT_DIFFERENCE.units,
        len(pairs),
        {"corrupt": float(base.mean())},
    )


def _patch(clean: Float[Tensor, "p t d"], prompts: Prompts, place: str) -> Edit:
    positions = prompts.positions(place)
    return lambda x: write_part(x, clean, slice(0, x.shape[2]), positions)


def _probe(model: Model, layer: int, text: PlantedText) -> Score:
    """A logistic probe at the cue; words of the judged prompts are not among those it was fitted on."""
    hook = f"blocks.{layer}.hook_resid_post"
    sides = {
        name: (_at_cue(model, hook, pairs), _triggered(pairs))
        for name, pairs in (("choose", text.choose), ("judge", text.judge))
    }
    probe = fit_logistic(*sides["choose"])
    x, y = sides["judge"]
    return cluster_interval(mean_of(probe.correct(x, y)), text.judge_words)


def _at_cue(model: Model, hook: str, pairs: PromptPairs) -> Float[ndarray, "two_p d"]:
    acts = [activations_at(model, hook, side, LAST).numpy() for side in (pairs.clean, pairs.corrupt)]
    return np.concatenate(acts).astype(np.float64)


def _triggered(pairs: PromptPairs) -> Bool[ndarray, " two_p"]:
    return np.arange(2 * len(pairs)) < len(pairs)


def feature_evidence(
    model: Model, text: PlantedText, dictionary: FeatureDictionary, *, n_controls: int, seed: int
) -> FeatureEvidence:
    """Choose a feature on one set of words and stories; judge it on the other."""
    hook = single_hook(dictionary)
    chosen_acts = torch.from_numpy(_at_cue(model, hook, text.choose)).float()
    with torch.no_grad():
        choose = dictionary.encode(chosen_acts).dense().numpy()
        judged = dictionary.encode(torch.from_numpy(_at_cue(model, hook, text.judge)).float()).dense().numpy()
    feature = int(np.argmax([_auc(choose[:, f], _triggered(text.choose)) for f in range(dictionary.d_sae)]))
    stories = np.tile(text.judge.clean.clusters.numpy(), 2)
    auc = cluster_interval(_weighted_auc(judged[:, feature], _triggered(text.judge)), stories)
    traits = FeatureTraits.of(dictionary, chosen_acts)
    controls = matched_sets(traits, torch.tensor([feature]), n_controls, seed=seed)[:, 0]
    few = text.judge.take(slice(0, _STEERED_PAIRS))
    scene = SteeringScene.of(model, hook, few.clean, LOGIT_DIFFERENCE, position=LAST)
    ablated = [_ablated(scene, dictionary, f) for f in (feature, *controls.tolist())]
    fired = choose[: len(text.choose), feature]
    mean = float(fired[fired > 0].mean()) if (fired > 0).any() else 1.0
    direction = Direction(
        hook, dictionary.directions(torch.tensor([feature]))[0].detach() * mean, f"feature {feature}", "feature"
    )
    dose = dose_response(
        model,
        direction,
        few.corrupt,
        LOGIT_DIFFERENCE,
        strengths=STRENGTHS,
        controls={
            "matched features": dictionary.directions(controls).detach(),
            "covariance-matched": covariance_matched(chosen_acts, n_controls, seed=seed),
        },
        position=LAST,
    )
    own = cluster_interval(mean_of(ablated[0]), few.clean.clusters.numpy())
    return FeatureEvidence(feature, auc, own, np.array([found.mean() for found in ablated[1:]]), dose)


@torch.no_grad()
def _ablated(scene: SteeringScene, dictionary: FeatureDictionary, feature: int) -> Float[ndarray, " p"]:
    edits = {scene.hook: feature_edit(dictionary, ablate_features(feature), scene.keep)}
    outputs = last_outputs(scene.model, scene.prompts, edits, stem=scene.stem)
    return np.asarray((scene.outcome(outputs, scene.prompts) - scene.unsteered).double().cpu().numpy())


def _auc(acts: Float[ndarray, " n"], y: Bool[ndarray, " n"]) -> float:
    return float(roc_auc_score(y, acts)) if acts.any() else 0.5


def _weighted_auc(acts: Float[ndarray, " n"], y: Bool[ndarray, " n"]) -> Statistic:
    def statistic(weights: Float[ndarray, " n"]) -> float:
        return float(roc_auc_score(y, acts, sample_weight=weights))

    return statistic


def words_of(n: int, groups: Sequence[Sequence[str]]) -> Int[ndarray, " two_p"]:
    """Which word each of n clean and n corrupt prompts holds, as `pairs_of` deals them out."""
    first = [i % len(groups[0]) for i in range(n)]
    return np.array([*first, *(len(groups[0]) + i % len(groups[1]) for i in range(n))])
