"""A model whose features, at several hooks, are kept or set to a baseline one by one, the rest of it running as it is.

Axes: b prompts, t position, o width of a written hook, f features, v vocabulary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.feature_sites import FeatureSite, of_hooks, readable
from interp.forward import last_outputs
from interp.hooks import Edit
from interp.models import Model
from interp.outcomes import Outcome
from interp.prompts import PromptPairs, Prompts


@dataclass(frozen=True, slots=True)
class Baseline:
    """What ablated nodes are set to, by written hook: values of features, and the part that no feature explains.

    Shapes: values[hook] (b, t, f) and errors[hook] (b, t, o), or (f,) and (o,) for one baseline everywhere.
    """

    values: dict[str, Float[Tensor, "... f"]]
    errors: dict[str, Float[Tensor, "... o"]]
    what: str


@dataclass(frozen=True, slots=True)
class FeatureNodes:
    """Prompts of a model with dictionaries in it, and the baseline that ablated nodes are set to.

    `readable` (b, t) are the tokens that the dictionaries speak of; the others are never touched.
    """

    model: Model
    sites: Mapping[str, FeatureSite]
    prompts: Prompts
    readable: Bool[Tensor, "b t"]
    baseline: Baseline

    @staticmethod
    def of_pairs(model: Model, sites: Mapping[str, FeatureSite], pairs: PromptPairs) -> "FeatureNodes":
        """Nodes of the clean prompts; ablated ones are set to what they are in the corrupt prompts, token by token."""
        values, errors = node_values(model, sites, pairs.corrupt)
        tokens = readable(model, pairs.clean) & readable(model, pairs.corrupt)
        if model.causal:
            # Before the first token that differs the two runs are one: there is nothing to ablate.
            differs = pairs.clean.token_ids != pairs.corrupt.token_ids
            tokens &= (differs.cumsum(1) > 0).to(tokens.device)
        return FeatureNodes(model, sites, pairs.clean, tokens, Baseline(values, errors, "corrupt prompts"))

    @staticmethod
    def of_prompts(
        model: Model, sites: Mapping[str, FeatureSite], prompts: Prompts, baseline: Baseline
    ) -> "FeatureNodes":
        """Nodes of the prompts, with a baseline made elsewhere (see `mean_baseline`)."""
        return FeatureNodes(model, sites, prompts, readable(model, prompts), baseline)

    def take(self, rows: slice) -> "FeatureNodes":
        """The same for some of the prompts."""
        held = self.baseline
        values = {hook: x if x.ndim == 1 else x[rows] for hook, x in held.values.items()}
        errors = {hook: x if x.ndim == 1 else x[rows] for hook, x in held.errors.items()}
        return FeatureNodes(
            self.model, self.sites, self.prompts.take(rows), self.readable[rows], Baseline(values, errors, held.what)
        )

    @torch.no_grad()
    def outputs(self, kept: Mapping[str, Bool[Tensor, " f"]], errors: Mapping[str, bool]) -> Float[Tensor, "b v"]:
        """Outputs of a pass in which only the kept features, and the errors of the chosen hooks, do what they do.

        Kept nodes are computed in the pass itself, from what is left of those below.
        """
        noted: dict[str, Tensor] = {}
        reading: dict[str, Edit] = {s.reads: _noting(noted, s.reads) for s in self.sites.values()}
        writing = {hook: self._replacing(noted, hook, kept[hook], error=errors[hook]) for hook in self.sites}
        # What a site reads is noted before its own replacement where the two are one hook.
        return last_outputs(self.model, self.prompts, _composed(reading, writing))

    def outcome(self, outcome: Outcome, kept: Mapping[str, Tensor], errors: Mapping[str, bool]) -> Float[Tensor, " b"]:
        """The outcome of `outputs`, prompt by prompt."""
        return outcome(self.outputs(kept, errors), self.prompts).double()

    def all_kept(self, *, features: bool) -> dict[str, Bool[Tensor, " f"]]:
        """Every feature kept, or none."""
        make = torch.ones if features else torch.zeros
        return {hook: make(site.d_sae, dtype=torch.bool) for hook, site in self.sites.items()}

    def _replacing(self, noted: dict[str, Tensor], hook: str, kept: Tensor, *, error: bool) -> Edit:
        site = self.sites[hook]
        away = (~kept).to(site.rows)

        def replace(y: Tensor) -> Tensor:
            at = self.readable
            encoded = site.encoded(noted[site.reads][at][None])
            change = (_at(self.baseline.values[hook], at) - encoded.values[0]) * away @ site.rows
            if not error:
                change = change + _at(self.baseline.errors[hook], at) - (y[at] - encoded.decoded[0])
            y[at] = y[at] + change.to(y)
            # A transcoder that reads this hook reads what is left there.
            noted[hook] = y.clone()
            return y

        return replace


def _at(baseline: Tensor, tokens: Bool[Tensor, "b t"]) -> Tensor:
    return baseline if baseline.ndim == 1 else baseline[tokens]


def _noting(noted: dict[str, Tensor], hook: str) -> Edit:
    def note(x: Tensor) -> Tensor:
        noted[hook] = x.clone()
        return x

    return note


def _composed(first: Mapping[str, Edit], then: Mapping[str, Edit]) -> dict[str, Edit]:
    """One edit a hook, `first` before `then`."""

    def both(a: Edit, b: Edit) -> Edit:
        return lambda x: b(a(x))

    return {
        hook: both(first[hook], then[hook]) if hook in first and hook in then else (first.get(hook) or then[hook])
        for hook in dict.fromkeys([*first, *then])
    }


@torch.no_grad()
def node_values(
    model: Model, sites: Mapping[str, FeatureSite], prompts: Prompts
) -> tuple[dict[str, Float[Tensor, "b t f"]], dict[str, Float[Tensor, "b t o"]]]:
    """Features' values and errors of every token, by written hook, in a pass that nobody changed."""
    noted: dict[str, Tensor] = {}
    last_outputs(model, prompts, {hook: _noting(noted, hook) for hook in of_hooks(sites)})
    values, errors = {}, {}
    for hook, site in sites.items():
        encoded = site.encoded(noted[site.reads])
        values[hook], errors[hook] = encoded.values, noted[hook] - encoded.decoded
    return values, errors


def mean_baseline(model: Model, sites: Mapping[str, FeatureSite], prompts: Prompts) -> Baseline:
    """Each feature's, and each error's, mean over the tokens of these prompts: the baseline without pairs."""
    values, errors = node_values(model, sites, prompts)
    at = readable(model, prompts)
    means = [{hook: x[at].mean(0) for hook, x in parts.items()} for parts in (values, errors)]
    return Baseline(means[0], means[1], "mean over prompts")


def kept_features(sites: Mapping[str, FeatureSite], nodes: Sequence[tuple[str, int]]) -> dict[str, Bool[Tensor, " f"]]:
    """A mask of each hook's features, true where (hook, feature) is among `nodes`."""
    kept = {hook: torch.zeros(site.d_sae, dtype=torch.bool) for hook, site in sites.items()}
    for hook, feature in nodes:
        kept[hook][feature] = True
    return kept
