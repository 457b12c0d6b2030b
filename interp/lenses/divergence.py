"""How far tuned and logit lens are from the model, layer by layer, on text that the lens was not trained on.

Axes: l layers (hooks), b tokens, c documents.
"""

import html
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray

from interp.activations.harvest import harvest_batch
from interp.code import ActivationBatch
from interp.datasets import TokenStream
from interp.effects import ratio_effect
from interp.errors import ArtifactError
from interp.lenses.logit import Reconstruct, divergence, logit_lens
from interp.lenses.tuned import TunedLens
from interp.storage import read_json, write_json

SCHEMA_VERSION = 1
Between = tuple[float, float]


@dataclass(frozen=True, slots=True)
class LayerDivergence:
    """KL(model‖lens) at one hook for both lenses, and tuned minus logit on the same tokens; intervals over documents.

    Units: nats per token.
    """

    hook: str
    logit: float
    logit_interval: Between | None
    tuned: float
    tuned_interval: Between | None
    difference: float
    difference_interval: Between | None

    @property
    def below(self) -> bool:
        """Whether the tuned lens is nearer to the model, by an interval that excludes zero."""
        return self.difference_interval is not None and self.difference_interval[1] < 0


@dataclass(frozen=True, slots=True)
class LensDivergence:
    """Held-out divergence of tuned and logit lens from the model at every layer but the last, where both are zero."""

    layers: tuple[LayerDivergence, ...]
    n_tokens: int
    n_documents: int
    reconstructed: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "schema_version": SCHEMA_VERSION,
            "kind": "lens_divergence",
            "layers": [{name: getattr(layer, name) for name in LayerDivergence.__slots__} for layer in self.layers],
            "n_tokens": self.n_tokens,
            "n_documents": self.n_documents,
            "reconstructed": list(self.reconstructed),
            "provenance": dict(self.provenance),
        }

    @staticmethod
    def from_json(held: Mapping[str, Any], where: str = "divergence") -> "LensDivergence":
        """From `to_json`'s values.

        Raises: ArtifactError if they are of another kind or version, or damaged.
        """
        if held.get("kind") != "lens_divergence" or held.get("schema_version") != SCHEMA_VERSION:
            raise ArtifactError(f"{where}: is no lens divergence of version {SCHEMA_VERSION}; measure again")
        try:
            layers = tuple(_layer(layer) for layer in held["layers"])
            counts = held["n_tokens"], held["n_documents"], tuple(held["reconstructed"])
            return LensDivergence(layers, *counts, held["provenance"])
        except (KeyError, TypeError):
            raise ArtifactError(f"{where}: is damaged; measure again") from None

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        write_json(path, self.to_json())

    @staticmethod
    def load(path: Path) -> "LensDivergence":
        """Read what `save` wrote.

        Raises: ArtifactError if the file is missing, damaged or of another kind.
        """
        return LensDivergence.from_json(read_json(path), str(path))

    def _repr_html_(self) -> str:
        lines = "".join(
            f"<tr><td>{html.escape(x.hook)}</td><td>{x.logit:.4f}</td><td>{x.tuned:.4f}</td>"
            f"<td>{x.difference:+.4f}</td><td>{_written(x.difference_interval)}</td></tr>"
            for x in self.layers
        )
        caption = f"KL to the model, nats per token; {self.n_tokens:,} tokens of {self.n_documents:,} documents"
        return (
            f"<table><caption>{caption}</caption><thead><tr><th>hook</th><th>logit lens</th><th>tuned lens</th>"
            f"<th>tuned - logit</th><th>95% interval</th></tr></thead><tbody>{lines}</tbody></table>"
        )


def _layer(held: Mapping[str, Any]) -> LayerDivergence:
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in held.items()}
    return LayerDivergence(**values)


def _written(between: Between | None) -> str:
    return "" if between is None else f"{between[0]:+.4f} to {between[1]:+.4f}"


@torch.no_grad()
def measure_divergence(
    lens: TunedLens,
    stream: TokenStream,
    *,
    n_tokens: int,
    reconstruct: Mapping[str, Reconstruct] | None = None,
    seed: int = 0,
    provenance: Mapping[str, Any] | None = None,
) -> LensDivergence:
    """Both lenses against the model over about `n_tokens` kept tokens of one pass; intervals resample documents.

    At a hook in `reconstruct` both read what it makes of the activations; the model they are held to stays whole. To
    let the rest of the model see a reconstruction too, call this inside `interp.hooks.edit`.
    """
    sums: list[Float[ndarray, "2 l b"]] = []
    documents: list[Int[ndarray, " b"]] = []
    n = 0
    for batch in _batches(lens, stream):
        sums.append(_divergences(lens, batch, reconstruct or {}))
        documents.append(batch.document.cpu().numpy())
        n += len(batch)
        if n >= n_tokens:
            break
    kl, member = np.concatenate(sums, axis=-1), np.unique(np.concatenate(documents), return_inverse=True)[1]
    layers = _summed(lens.hooks, kl, member, seed)
    return LensDivergence(layers, n, int(member.max()) + 1, tuple(reconstruct or ()), provenance or {})


def _batches(lens: TunedLens, stream: TokenStream) -> Iterator[ActivationBatch]:
    hooks = (*lens.hooks, lens.teacher_hook)
    for batch in stream.iter_pass():
        if batch.n_kept:
            yield harvest_batch(lens.model, batch, hooks)


def _divergences(
    lens: TunedLens, batch: ActivationBatch, reconstruct: Mapping[str, Reconstruct]
) -> Float[ndarray, "2 l b"]:
    teacher = logit_lens(lens.model, batch.acts[lens.teacher_hook])
    rows: list[list[ndarray]] = [[], []]
    for hook in lens.hooks:
        x = batch.acts[hook]
        x = reconstruct[hook](x) if hook in reconstruct else x
        for row, logits in zip(rows, (logit_lens(lens.model, x), lens.logits(hook, x)), strict=True):
            row.append(divergence(teacher, logits).double().cpu().numpy())
    return np.stack([np.stack(row) for row in rows])


def _summed(
    hooks: Iterable[str], kl: Float[ndarray, "2 l b"], member: Int[ndarray, " b"], seed: int
) -> tuple[LayerDivergence, ...]:
    """Means per token; documents are added up first, so that drawing them again is cheap."""
    logit, tuned = kl
    rows = np.concatenate([logit, tuned, tuned - logit])
    n_documents = int(member.max()) + 1
    totals = np.stack([np.bincount(member, weights=row, minlength=n_documents) for row in rows])
    counts = np.bincount(member, minlength=n_documents).astype(np.float64)
    found = ratio_effect(totals, counts, np.arange(n_documents), seed=seed)
    n = len(logit)

    def at(row: int) -> tuple[float, Between | None]:
        if found.interval is None:
            return float(found.value[row]), None
        return float(found.value[row]), (float(found.interval[0, row]), float(found.interval[1, row]))

    return tuple(
        LayerDivergence(hook, *at(index), *at(n + index), *at(2 * n + index)) for index, hook in enumerate(hooks)
    )
