"""What an SAE explains and what it costs the language model, with intervals over documents.

Axes: n kept tokens, d width of the hook, p predicted tokens.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from interp.activations.harvest import harvest_batch
from interp.code import ActivationBatch
from interp.datasets import TokenBatch
from interp.errors import ArtifactError, DataError, UnknownHookError
from interp.models import Model
from saes.arm_losses import iter_slices, run_arm, run_clean
from saes.base import SAE
from saes.facts import SAEFacts, check_same_origin
from saes.metrics import (
    SINK_RATIO,
    DocumentSums,
    FiringCounts,
    Statistic,
    VarianceSums,
    document_bootstrap,
    loss_recovered,
    share_unexplained,
    sink_mask,
)
from saes.token_sample import TokenSource, iter_sample

SCHEMA_VERSION = 1
Interval = tuple[float, float]
Progress = Callable[[str, int, int], None]
"""Called with what is being done, tokens done and tokens in all."""


@dataclass(frozen=True, slots=True)
class CrossEntropy:
    """Loss over the same predicted tokens with the kept tokens' activations as they are, zeroed, set to their mean, or
    reconstructed. Tokens that are not kept are left alone in every arm and predict nothing that is counted.

    delta is sae - clean with its 95% interval over documents; recovered (H₀ - H_sae) / (H₀ - H) with H₀ zero or mean.
    Units: nats per token; kl is KL(clean ‖ sae).
    """

    n_predicted: int
    clean: float
    zero: float
    mean: float
    sae: float
    delta: float
    delta_interval: Interval | None
    recovered_vs_zero: float | None
    recovered_vs_mean: float | None
    kl: float


@dataclass(frozen=True, slots=True)
class PrefixScore:
    """The same for the first `width` features alone."""

    width: int
    explained_variance: float
    l0: float
    ce_delta: float | None
    kl: float | None


@dataclass(frozen=True, slots=True)
class Sinks:
    """Explained variance with and without tokens whose norm exceeds `ratio` × the median norm."""

    ratio: float
    median_norm: float
    n_sinks: int
    explained_variance_with: float
    explained_variance_without: float


@dataclass(frozen=True, slots=True)
class ArmScore:
    """What is told of a null arm beside the SAE's own figures."""

    explained_variance: float
    l0: float
    dead_share: float
    ce_delta: float | None
    recovered_vs_zero: float | None
    recovered_vs_mean: float | None
    kl: float | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An SAE's scores; runs/<name>/evaluation.json. Intervals are 95%, over documents; None with fewer than two.

    ce is None where it is not measured: an encoder predicts no next token.
    """

    n_tokens: int
    n_documents: int
    explained_variance: float
    explained_variance_interval: Interval | None
    fvu: float
    l0: float
    dead_share: float
    dense_share: float
    ce: CrossEntropy | None
    prefixes: tuple[PrefixScore, ...]
    sinks: Sinks
    seed: int
    hook: str
    mask_policy: Mapping[str, Any]
    model_hash: str
    data: Mapping[str, Any]
    null_arms: Mapping[str, ArmScore] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def as_arm(self) -> ArmScore:
        """The figures told when this evaluation is a null arm of another."""
        scores = self.explained_variance, self.l0, self.dead_share
        ce = self.ce
        if ce is None:
            return ArmScore(*scores, None, None, None, None)
        return ArmScore(*scores, ce.delta, ce.recovered_vs_zero, ce.recovered_vs_mean, ce.kl)

    def to_json(self) -> dict[str, Any]:
        """Plain values for evaluation.json."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Any) -> "Evaluation":
        """Raises: ArtifactError naming the first entry that is missing or of the wrong type."""
        if not isinstance(values, dict) or values.get("schema_version") != SCHEMA_VERSION:
            raise ArtifactError(f"not an evaluation of version {SCHEMA_VERSION}; evaluate the run again")
        try:
            return TypeAdapter(cls).validate_python(values)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ArtifactError(f"evaluation: {where}: {first['msg'].lower()}; evaluate the run again") from None


def evaluate(
    model: Model,
    sae: SAE,
    source: TokenSource,
    *,
    n_tokens: int,
    seed: int = 0,
    facts: SAEFacts | None = None,
    allow_mismatch: bool = False,
    on_progress: Progress | None = None,
) -> Evaluation:
    """Score an SAE on about `n_tokens` kept tokens, in two passes over the same batches.

    The first pass takes the mean activation and the median norm; the second runs the model clean, zeroed, with the
    mean, with the SAE and with each of its prefixes. Of an encoder, which predicts no next token, the second pass only
    takes the activations.

    Raises: ArtifactError if `facts` name another model or mask policy, unless `allow_mismatch`; UnknownHookError for a
    hook the model lacks; DataError if there is no usable token or the activations do not vary.
    """
    if facts is not None and not allow_mismatch:
        check_same_origin(facts, model, source)
    if len(sae.hooks_in) != 1 or sae.hooks_in != sae.hooks_out:
        raise UnknownHookError(f"got hooks {sae.hooks_in} and {sae.hooks_out}; evaluation takes SAEs of one hook")
    tally = _Tally(model, sae, _baseline(model, sae.hooks_in[0], source, n_tokens, seed, on_progress))
    for batch in iter_sample(source, n_tokens, seed=seed):
        if model.causal:
            for part in iter_slices(batch, model.d_vocab):
                if part.n_kept:
                    tally.add(part)
        else:
            tally.add_activations(harvest_batch(model, batch, sae.hooks_in))
        if on_progress:
            on_progress("evaluate", tally.firing.n_tokens, tally.baseline.n_tokens)
    return tally.evaluation(source, seed)


@dataclass(frozen=True, slots=True)
class _Baseline:
    """What the second pass compares with."""

    n_tokens: int
    mean: Float[Tensor, " d"]
    median_norm: float


def _baseline(
    model: Model, hook: str, source: TokenSource, n_tokens: int, seed: int, on_progress: Progress | None
) -> _Baseline:
    total = torch.zeros(model.hook(hook).width, dtype=torch.float64)
    norms: list[Tensor] = []
    n_seen = 0
    for batch in iter_sample(source, n_tokens, seed=seed):
        x = harvest_batch(model, batch, (hook,)).acts[hook]
        total += x.double().sum(0).cpu()
        norms.append(torch.linalg.vector_norm(x.float(), dim=1).cpu())
        n_seen += x.shape[0]
        if on_progress:
            on_progress("mean activation", n_seen, n_tokens)
    return _Baseline(n_seen, total / n_seen, float(torch.cat(norms).median()))


class _Tally:
    """Everything that the second pass adds up."""

    def __init__(self, model: Model, sae: SAE, baseline: _Baseline) -> None:
        self.model, self.sae, self.baseline = model, sae, baseline
        self.inner_widths = tuple(width for width in sae.config.prefix_widths() if width < sae.d_sae)
        self.firing = FiringCounts(sae.d_sae)
        empty = VarianceSums(0, torch.zeros_like(baseline.mean), 0.0, 0.0)
        keys: tuple[str | int, ...] = ("all", "no sinks", *self.inner_widths)
        self.reconstructed = dict.fromkeys(keys, empty)
        self.variance = DocumentSums(2)
        self.n_arms = len(_ARMS) + len(self.inner_widths)
        self.losses = DocumentSums(2 + 2 * self.n_arms)

    @torch.no_grad()
    def add(self, batch: TokenBatch) -> None:
        clean = run_clean(self.model, batch, self.sae.hooks_in[0])
        x = clean.acts
        x_hat, inner = self._reconstruct(x, clean.document)
        mean = self.baseline.mean.to(x).expand_as(x)
        arms = [run_arm(self.model, clean, y) for y in (torch.zeros_like(x), mean, x_hat, *inner.values())]
        columns = [torch.ones_like(clean.nll), clean.nll, *(arm.nll for arm in arms), *(arm.kl for arm in arms)]
        self.losses.add(clean.predicted_document, torch.stack(columns, dim=1))

    @torch.no_grad()
    def add_activations(self, batch: ActivationBatch) -> None:
        """The same without the losses."""
        self._reconstruct(batch.stacked(self.sae.hooks_in), batch.document)

    def _reconstruct(self, x: Tensor, document: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        """What the SAE and each of its inner prefixes make of x, added up."""
        code = self.sae.encode(x)
        self.firing.add(code)
        x_hat = self.sae.decode(code)
        inner = {width: self.sae.decode(code, prefix=width) for width in self.inner_widths}
        self._add_errors(x, x_hat, inner, document)
        return x_hat, inner

    def _add_errors(self, x: Tensor, x_hat: Tensor, inner: Mapping[int, Tensor], document: Tensor) -> None:
        usual = ~sink_mask(torch.linalg.vector_norm(x.float(), dim=1), median=self.baseline.median_norm)
        self.reconstructed["all"] += VarianceSums.of(x, x_hat)
        self.reconstructed["no sinks"] += VarianceSums.of(x[usual], x_hat[usual])
        for width, partial in inner.items():
            self.reconstructed[width] += VarianceSums.of(x, partial)
        errors = (x.double() - x_hat.double()).square().sum(1)
        distances = (x.double() - self.baseline.mean.to(x.device)).square().sum(1)
        self.variance.add(document, torch.stack([errors, distances], dim=1))

    def evaluation(self, source: TokenSource, seed: int) -> Evaluation:
        whole, facts = self.reconstructed["all"], source.facts
        totals = self.variance.array()
        fvu = _interval(totals, share_unexplained, seed)
        return Evaluation(
            n_tokens=whole.n_tokens,
            n_documents=totals.shape[0],
            explained_variance=whole.explained_variance,
            explained_variance_interval=None if fvu is None else (1 - fvu[1], 1 - fvu[0]),
            fvu=whole.fvu,
            l0=self.firing.l0(),
            dead_share=self.firing.dead_share(),
            dense_share=self.firing.dense_share(),
            ce=self._cross_entropy(seed) if self.model.causal else None,
            prefixes=self._prefixes(),
            sinks=self._sinks(),
            seed=seed,
            hook=self.sae.hooks_in[0],
            mask_policy=facts.get("mask_policy", {}),
            model_hash=self.model.content_hash,
            data=facts,
        )

    def _means(self) -> tuple[float, list[float], list[float]]:
        """Clean loss, then loss and KL of every arm."""
        sums = self.losses.array().sum(0)
        if sums.shape[0] == 0 or sums[0] == 0:
            raise DataError("got no token that is followed by another of its document; give longer documents")
        per_token = (sums[1:] / sums[0]).tolist()
        return per_token[0], per_token[1 : 1 + self.n_arms], per_token[1 + self.n_arms :]

    def _cross_entropy(self, seed: int) -> CrossEntropy:
        clean, (zero, mean, spliced, *_), (_, _, kl, *_) = self._means()
        table = self.losses.array()
        return CrossEntropy(
            n_predicted=int(table[:, 0].sum()),
            clean=clean,
            zero=zero,
            mean=mean,
            sae=spliced,
            delta=spliced - clean,
            delta_interval=_interval(table[:, [_COUNT, _CLEAN, _SAE]], _delta, seed),
            recovered_vs_zero=loss_recovered(clean, zero, spliced),
            recovered_vs_mean=loss_recovered(clean, mean, spliced),
            kl=kl,
        )

    def _prefixes(self) -> tuple[PrefixScore, ...]:
        """One score per prefix, the whole dictionary last; none for a flat SAE."""
        if not self.inner_widths:
            return ()
        # In the order of the arms: the SAE itself stands before its inner prefixes.
        order = (*range(len(_ARMS), self.n_arms), _ARMS.index("sae"))
        keys: tuple[str | int, ...] = (*self.inner_widths, "all")
        widths = (*self.inner_widths, self.sae.d_sae)
        costs: list[tuple[float | None, float | None]] = [(None, None)] * len(widths)
        if self.model.causal:
            clean, nll, kl = self._means()
            costs = [(nll[i] - clean, kl[i]) for i in order]
        return tuple(
            PrefixScore(width, self.reconstructed[key].explained_variance, self.firing.l0(width), *cost)
            for width, key, cost in zip(widths, keys, costs, strict=True)
        )

    def _sinks(self) -> Sinks:
        whole, rest = self.reconstructed["all"], self.reconstructed["no sinks"]
        n_sinks = whole.n_tokens - rest.n_tokens
        ev = whole.explained_variance, rest.explained_variance
        return Sinks(SINK_RATIO, self.baseline.median_norm, n_sinks, *ev)


_ARMS = ("zero", "mean", "sae")
_COUNT, _CLEAN, _SAE = 0, 1, 2 + _ARMS.index("sae")


def _delta(totals: Float[np.ndarray, "r 3"]) -> Float[np.ndarray, " r"]:
    return np.asarray((totals[:, 2] - totals[:, 1]) / totals[:, 0])


def _interval(table: Float[np.ndarray, "m q"], statistic: Statistic, seed: int) -> Interval | None:
    return document_bootstrap(table, statistic, seed=seed) if table.shape[0] > 1 else None
