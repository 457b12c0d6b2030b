"""The second pass of an evaluation: everything that is added up, and the scores that come of it.

Axes: n kept tokens, d width of the hooks that are written, m documents, q quantities, h hooks, a arms.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.code import ActivationBatch, FeatureDictionary
from interp.datasets import TokenBatch
from interp.errors import DataError
from interp.models import Model
from saes.arm_losses import ArmLoss, run_arm, run_clean
from saes.hook_layout import check_output, hook_columns, inner_prefixes
from saes.metrics import (
    SINK_RATIO,
    DocumentSums,
    FiringCounts,
    PooledVariance,
    Statistic,
    VarianceSums,
    document_bootstrap,
    loss_recovered,
    share_unexplained,
    sink_mask,
)
from saes.scores import CrossEntropy, Evaluation, HookScore, Interval, PrefixScore, Sinks
from saes.token_sample import TokenSource

_ARMS = ("zero", "mean", "sae")
_SAE = _ARMS.index("sae")


@dataclass(frozen=True, slots=True)
class Baseline:
    """What the second pass compares with; a median norm for each hook."""

    n_tokens: int
    mean: Float[Tensor, " d"]
    median_norms: tuple[float, ...]


class Tally:
    """Everything that the second pass adds up."""

    def __init__(self, model: Model, dictionary: FeatureDictionary, baseline: Baseline) -> None:
        self.model, self.dictionary, self.baseline = model, dictionary, baseline
        self.columns = hook_columns(model, dictionary.hooks_out)
        self.inner_widths = inner_prefixes(dictionary)
        self.firing = FiringCounts(dictionary.d_sae)
        empty = PooledVariance(
            tuple(VarianceSums(0, torch.zeros_like(baseline.mean[part]), 0.0, 0.0) for part in self.columns.values())
        )
        keys: tuple[str | int, ...] = ("all", "no sinks", *self.inner_widths)
        self.reconstructed = dict.fromkeys(keys, empty)
        self.variance = DocumentSums(2 * len(self.columns))
        self.n_arms = len(_ARMS) + len(self.inner_widths)
        self.losses = DocumentSums(2 + 2 * len(self.columns) * self.n_arms)

    @property
    def predicts(self) -> bool:
        """Whether there is one next-token loss to measure."""
        return self.model.causal and all(self.model.owner(hook)[0] is self.model for hook in self.columns)

    @torch.no_grad()
    def add(self, batch: TokenBatch) -> None:
        """Run every arm on a batch."""
        clean = run_clean(self.model, batch, (*self.dictionary.hooks_in, *self.dictionary.hooks_out))
        y, y_hat, inner = self._reconstruct(clean.acts)
        replacements = (torch.zeros_like(y), self.baseline.mean.to(y).expand_as(y), y_hat, *inner.values())
        arms: list[ArmLoss] = []
        for hook, part in self.columns.items():
            # One hook at a time: what a hook costs is not mixed with what the others do.
            arms += [run_arm(self.model, clean, {hook: new[:, part]}) for new in replacements]
        columns = [torch.ones_like(clean.nll), clean.nll, *(arm.nll for arm in arms), *(arm.kl for arm in arms)]
        self.losses.add(clean.predicted_document, torch.stack(columns, dim=1))

    @torch.no_grad()
    def add_activations(self, batch: ActivationBatch) -> None:
        """The same without the losses."""
        self._reconstruct(batch)

    def _reconstruct(self, batch: ActivationBatch) -> tuple[Tensor, Tensor, dict[int, Tensor]]:
        """The output as it is, and what the dictionary and each of its inner prefixes make of the input, added up."""
        y = batch.stacked(self.dictionary.hooks_out)
        code = self.dictionary.encode(batch.stacked(self.dictionary.hooks_in))
        self.firing.add(code)
        y_hat = self.dictionary.decode(code)
        check_output(y_hat, y, self.dictionary.hooks_out)
        inner = {width: self.dictionary.decode(code, prefix=width) for width in self.inner_widths}
        self._add_errors(y, y_hat, inner, batch.document)
        return y, y_hat, inner

    def _add_errors(self, y: Tensor, y_hat: Tensor, inner: Mapping[int, Tensor], document: Tensor) -> None:
        usual = self._usual(y)
        self.reconstructed["all"] += self._sums(y, y_hat)
        self.reconstructed["no sinks"] += self._sums(y[usual], y_hat[usual])
        for width, partial in inner.items():
            self.reconstructed[width] += self._sums(y, partial)
        mean = self.baseline.mean.to(y.device)
        errors, distances = (y.double() - y_hat.double()).square(), (y.double() - mean).square()
        sums = [table[:, part].sum(1) for part in self.columns.values() for table in (errors, distances)]
        self.variance.add(document, torch.stack(sums, dim=1))

    def _sums(self, y: Tensor, y_hat: Tensor) -> PooledVariance:
        return PooledVariance(tuple(VarianceSums.of(y[:, part], y_hat[:, part]) for part in self.columns.values()))

    def _usual(self, y: Tensor) -> Tensor:
        """Tokens that are a high-norm sink at none of the hooks."""
        usual = torch.ones(y.shape[0], dtype=torch.bool, device=y.device)
        for part, median in zip(self.columns.values(), self.baseline.median_norms, strict=True):
            usual &= ~sink_mask(torch.linalg.vector_norm(y[:, part].float(), dim=1), median=median)
        return usual

    def evaluation(self, source: TokenSource, seed: int, *, architecture: str | None = None) -> Evaluation:
        """The scores of all that was added."""
        whole, facts = self.reconstructed["all"], source.facts
        totals = self.variance.array()
        losses = self._losses() if self.predicts else None
        return Evaluation(
            n_tokens=whole.n_tokens,
            n_documents=totals.shape[0],
            explained_variance=whole.explained_variance,
            explained_variance_interval=_explained(totals, seed),
            fvu=whole.fvu,
            l0=self.firing.l0(),
            dead_share=self.firing.dead_share(),
            dense_share=self.firing.dense_share(),
            ce=None if losses is None else losses.cross_entropy(losses.hooks, seed),
            prefixes=self._prefixes(losses),
            sinks=self._sinks(),
            seed=seed,
            hook=self.dictionary.hooks_out[0],
            mask_policy=facts.get("mask_policy", {}),
            model_hash=self.model.content_hash,
            data=facts,
            architecture=architecture,
            hooks_in=self.dictionary.hooks_in,
            hooks_out=self.dictionary.hooks_out,
            hooks=self._hooks(losses, seed),
        )

    def _losses(self) -> "_Losses":
        table = self.losses.array()
        if table.shape[0] == 0 or table[:, 0].sum() == 0:
            raise DataError("got no token that is followed by another of its document; give longer documents")
        arms = table[:, 2:].reshape(-1, 2, len(self.columns), self.n_arms)
        return _Losses(table[:, 0], table[:, 1], arms[:, 0], arms[:, 1])

    def _hooks(self, losses: "_Losses | None", seed: int) -> tuple[HookScore, ...]:
        """One score per hook; none where there is one hook, whose scores are those of all."""
        if len(self.columns) == 1:
            return ()
        totals, scores = self.variance.array(), []
        for number, (hook, sums) in enumerate(zip(self.columns, self.reconstructed["all"].hooks, strict=True)):
            interval = _explained(totals[:, 2 * number : 2 * number + 2], seed)
            ce = None if losses is None else losses.cross_entropy((number,), seed)
            scores.append(HookScore(hook, sums.explained_variance, interval, ce))
        return tuple(scores)

    def _prefixes(self, losses: "_Losses | None") -> tuple[PrefixScore, ...]:
        """One score per prefix, the whole dictionary last; none for a flat SAE."""
        if not self.inner_widths:
            return ()
        # In the order of the arms: the SAE itself stands before its inner prefixes.
        order = (*range(len(_ARMS), self.n_arms), _SAE)
        keys: tuple[str | int, ...] = (*self.inner_widths, "all")
        widths = (*self.inner_widths, self.dictionary.d_sae)
        costs: list[tuple[float | None, float | None]] = [(None, None)] * len(widths)
        if losses is not None:
            clean, nll, kl = losses.means(losses.hooks)
            costs = [(nll[i] - clean, kl[i]) for i in order]
        return tuple(
            PrefixScore(width, self.reconstructed[key].explained_variance, self.firing.l0(width), *cost)
            for width, key, cost in zip(widths, keys, costs, strict=True)
        )

    def _sinks(self) -> Sinks:
        whole, rest = self.reconstructed["all"], self.reconstructed["no sinks"]
        n_sinks = whole.n_tokens - rest.n_tokens
        medians = self.baseline.median_norms
        ev = whole.explained_variance, rest.explained_variance
        return Sinks(SINK_RATIO, sum(medians) / len(medians), n_sinks, *ev)


@dataclass(frozen=True, slots=True)
class _Losses:
    """Sums over documents: predicted tokens, clean loss, then loss and KL of each arm at each hook."""

    count: Float[np.ndarray, " m"]
    clean: Float[np.ndarray, " m"]
    nll: Float[np.ndarray, "m h a"]
    kl: Float[np.ndarray, "m h a"]

    @property
    def hooks(self) -> tuple[int, ...]:
        return tuple(range(self.nll.shape[1]))

    def means(self, hooks: Sequence[int]) -> tuple[float, list[float], list[float]]:
        """Clean loss, then loss and KL of every arm, per predicted token, as the mean of these hooks."""
        n, chosen = self.count.sum(), list(hooks)
        nll, kl = (sums[:, chosen].mean(1).sum(0) / n for sums in (self.nll, self.kl))
        return float(self.clean.sum() / n), nll.tolist(), kl.tolist()

    def cross_entropy(self, hooks: Sequence[int], seed: int) -> CrossEntropy:
        clean, (zero, mean, spliced, *_), (_, _, kl, *_) = self.means(hooks)
        with_sae = self.nll[:, list(hooks), _SAE].mean(1)
        return CrossEntropy(
            n_predicted=int(self.count.sum()),
            clean=clean,
            zero=zero,
            mean=mean,
            sae=spliced,
            delta=spliced - clean,
            delta_interval=_interval(np.stack([self.count, self.clean, with_sae], axis=1), _delta, seed),
            recovered_vs_zero=loss_recovered(clean, zero, spliced),
            recovered_vs_mean=loss_recovered(clean, mean, spliced),
            kl=kl,
        )


def _delta(totals: Float[np.ndarray, "r 3"]) -> Float[np.ndarray, " r"]:
    return np.asarray((totals[:, 2] - totals[:, 1]) / totals[:, 0])


def _explained(totals: Float[np.ndarray, "m q"], seed: int) -> Interval | None:
    fvu = _interval(totals, share_unexplained, seed)
    return None if fvu is None else (1 - fvu[1], 1 - fvu[0])


def _interval(table: Float[np.ndarray, "m q"], statistic: Statistic, seed: int) -> Interval | None:
    return document_bootstrap(table, statistic, seed=seed) if table.shape[0] > 1 else None
