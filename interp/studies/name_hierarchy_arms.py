"""Dictionaries, neurons and a probe as detectors of a parent class in running text.

Axes: n tokens, d width.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from interp.activations.harvest import harvest_batch
from interp.datasets import TokenStream
from interp.errors import DataError
from interp.models import Model
from interp.studies.matryoshka_toy import set_threshold
from interp.studies.name_hierarchy_results import Arm, ArmRun
from interp.studies.name_hierarchy_scoring import LabelledTokens, best_feature, best_threshold, fires, score_parent
from probes.concepts import Hierarchy
from probes.logistic import fit_logistic
from probes.running_text import WordLabels
from saes import SAE
from saes.token_sample import iter_sample

CALIBRATION_TOKENS = 16_384


@dataclass(frozen=True, slots=True)
class HierarchyText:
    """Labelled text: to choose on, and to score on; the parents and their members."""

    choose: LabelledTokens
    score: LabelledTokens
    names: tuple[str, ...]
    parents: Mapping[str, tuple[int, ...]]

    @staticmethod
    def of(model: Model, hierarchy: Hierarchy, stream: TokenStream, hook: str, *, n_tokens: int) -> "HierarchyText":
        """To choose on: the stream's own split; to score on: what it holds out.

        Raises: DataError if one of them holds no word of a parent.
        """
        labels = WordLabels(model.tokenizer, hierarchy)
        choose, score = (
            _labelled(model, held, hook, labels, n_tokens) for held in (stream, stream.with_split("heldout"))
        )
        every = range(len(labels.words))
        of_child = {child: tuple(i for i in every if labels.child[i] == child) for child in hierarchy.children}
        parents = {hierarchy.parent: tuple(every), **{child: held for child, held in of_child.items() if len(held) > 1}}
        for side in (choose, score):
            if absent := [name for name, held in parents.items() if not bool(side.members(held).any())]:
                raise DataError(f"{stream.documents.name}: holds no {absent[0]}; give more text or other --names")
        return HierarchyText(choose, score, tuple(labels.words), parents)

    def occurrences(self) -> dict[str, tuple[int, int]]:
        """Held-out tokens of each parent, and names that occur often enough to be scored."""
        silent = torch.zeros(self.score.label.shape, dtype=torch.bool)
        return {
            parent: (
                int(self.score.members(words).sum()),
                len(score_parent(parent, silent, self.score, words, self.names).word_recall),
            )
            for parent, words in self.parents.items()
        }


def _labelled(model: Model, stream: TokenStream, hook: str, labels: WordLabels, n_tokens: int) -> LabelledTokens:
    acts, label, document = [], [], []
    for batch in iter_sample(stream, n_tokens, seed=0):
        harvested = harvest_batch(model, batch, (hook,))
        acts.append(harvested.acts[hook].float().cpu())
        document.append(harvested.document.cpu())
        label.append(labels.of_batch(batch))
    return LabelledTokens(torch.cat(acts), torch.cat(label), torch.cat(document))


@torch.no_grad()
def score_sae(sae: SAE, arm: Arm, seed: int, text: HierarchyText, eval_l0: float) -> ArmRun:
    """A dictionary at the L0 asked for, by one threshold; for each parent the latent of the best F1."""
    set_threshold(sae, spread_out(text.choose.acts, CALIBRATION_TOKENS), eval_l0)
    chosen_on, scored_on = sae.encode(text.choose.acts), sae.encode(text.score.acts)
    x = text.score.acts
    error = (x - sae.decode(scored_on)).square().sum() / (x - x.mean(0)).square().sum()
    parents = []
    for parent, words in text.parents.items():
        feature = best_feature(chosen_on, text.choose.members(words), text.choose.counted)
        found = fires(scored_on, feature)
        parents.append(score_parent(parent, found, text.score, words, text.names, feature=feature))
    return ArmRun(arm, seed, scored_on.l0(), 1 - float(error), tuple(parents))


def spread_out(acts: Float[Tensor, "n d"], n: int) -> Float[Tensor, "m d"]:
    """About n rows at equal distances: rows of like length stand together."""
    return acts[:: max(1, acts.shape[0] // n)]


def score_neurons(text: HierarchyText) -> ArmRun:
    """For each parent the coordinate, sign and threshold of the best F1."""
    parents = []
    for parent, words in text.parents.items():
        member = text.choose.members(words)
        up, down = (best_threshold(sign * text.choose.acts, member, text.choose.counted) for sign in (1, -1))
        sign, (column, threshold, _) = (1, up) if up[2] >= down[2] else (-1, down)
        found = sign * text.score.acts[:, column].double() > threshold
        parents.append(score_parent(parent, found, text.score, words, text.names, feature=column))
    return ArmRun("neurons", 0, None, None, tuple(parents))


def score_probe(text: HierarchyText) -> ArmRun:
    """A logistic probe of the whole activation at its threshold of the best F1."""
    parents = []
    for parent, words in text.parents.items():
        member, counted = text.choose.members(words), text.choose.counted
        probe = fit_logistic(text.choose.acts[counted].numpy(), member[counted].numpy())
        scores = torch.as_tensor(probe.score(text.choose.acts.numpy()))
        _, threshold, _ = best_threshold(scores[:, None], member, counted)
        found = torch.as_tensor(probe.score(text.score.acts.numpy())) > threshold
        parents.append(score_parent(parent, found, text.score, words, text.names))
    return ArmRun("dense_probe", 0, None, None, tuple(parents))
