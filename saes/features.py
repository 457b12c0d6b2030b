"""Statistics of every feature at once, from one pass over tokens, in memory that does not grow with their number.

Axes: f features, K top examples, w window length, h histogram bins, n active entries of a batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.activations.harvest import harvest_batch
from interp.code import Code
from interp.errors import ArtifactError
from interp.models import Model
from interp.storage import new_folder, read_json, read_tensors, write_json, write_tensors
from saes.base import SAE
from saes.document_density import DensityByDocument
from saes.facts import SAEFacts, check_same_origin
from saes.firing_histogram import FiringHistogram
from saes.firing_tokens import FiringTokens
from saes.logit_effects import LogitEffects, logit_effects
from saes.token_sample import TokenSource, iter_sample
from saes.top_examples import TopExamples

SCHEMA_VERSION = 1
N_FIRING_TOKENS = 5
Progress = Callable[[str, int, int], None]
"""Called with what is being done, tokens done and tokens in all."""


@dataclass(frozen=True, slots=True)
class FeatureStatistics:
    """What is known of every feature after one pass.

    density counts firings per kept token; density_interval is its 95% interval over documents. mean_activation and
    histogram are over firings only; bin_edges, shared by all features, are log-spaced and the outer bins hold what
    lies beyond them. top_*: the K strongest spans with a window around the peak (value 0 and token -1 where there is
    none). raised and lowered: direct effect on the logits (see saes.logit_effects). firing_tokens: the tokens on
    which a feature fires most, with their share of its firings. level: Matryoshka group, 1 the most general.
    """

    n_tokens: int
    n_documents: int
    d_sae: int
    density: Float[np.ndarray, " f"]
    density_interval: Float[np.ndarray, "f 2"]
    max_activation: Float[np.ndarray, " f"]
    mean_activation: Float[np.ndarray, " f"]
    histogram: Int[np.ndarray, "f h"]
    bin_edges: Float[np.ndarray, " h_plus_1"]
    top_values: Float[np.ndarray, "f K"]
    top_tokens: Int[np.ndarray, "f K w"]
    top_acts: Float[np.ndarray, "f K w"]
    top_peak: Int[np.ndarray, "f K"]
    top_document: Int[np.ndarray, "f K"]
    top_position: Int[np.ndarray, "f K"]
    raised_tokens: Int[np.ndarray, "f r"]
    raised_logits: Float[np.ndarray, "f r"]
    lowered_tokens: Int[np.ndarray, "f r"]
    lowered_logits: Float[np.ndarray, "f r"]
    firing_tokens: Int[np.ndarray, "f q"]
    firing_token_share: Float[np.ndarray, "f q"]
    level: Int[np.ndarray, " f"]


def collect_features(
    model: Model,
    sae: SAE,
    source: TokenSource,
    *,
    n_tokens: int,
    seed: int = 0,
    facts: SAEFacts | None = None,
    allow_mismatch: bool = False,
    n_examples: int = 20,
    window: int = 32,
    on_progress: Progress | None = None,
) -> FeatureStatistics:
    """One streaming pass over about `n_tokens` kept tokens of `source`.

    Raises: ArtifactError if `facts` name another model or mask policy, unless `allow_mismatch`; UnknownHookError if the
    model lacks the SAE's hook; DataError if the source holds no usable token.
    """
    if facts is not None and not allow_mismatch:
        check_same_origin(facts, model, source)
    passing = _Pass(sae.d_sae, model.d_vocab, n_examples, window)
    for batch in iter_sample(source, n_tokens, seed=seed):
        acts = harvest_batch(model, batch, sae.hooks_in)
        with torch.no_grad():
            code = _on_cpu(sae.encode(acts.stacked(sae.hooks_in)))
        passing.density.add(code, acts.document.cpu())
        passing.histogram.add(code)
        passing.firing_tokens.add(code, acts.token_ids.cpu())
        passing.examples.add(batch, code)
        passing.n_tokens += code.n_rows
        if on_progress:
            on_progress("features", passing.n_tokens, n_tokens)
    effects = logit_effects(model, sae.hooks_out[0], sae.directions(torch.arange(sae.d_sae)).detach())
    return passing.statistics(effects, levels_of(sae.d_sae, sae.config.prefix_widths()))


def levels_of(d_sae: int, prefixes: Sequence[int]) -> Int[Tensor, " f"]:
    """Group of each feature: 1 within the first prefix, 2 in what the second adds; 1 for all without prefixes."""
    inner = torch.tensor([width for width in prefixes if width < d_sae], dtype=torch.int64)
    return torch.bucketize(torch.arange(d_sae), inner, right=True) + 1


class _Pass:
    """Everything that one pass adds up."""

    def __init__(self, d_sae: int, d_vocab: int, n_examples: int, window: int) -> None:
        self.d_sae, self.n_tokens = d_sae, 0
        self.density = DensityByDocument(d_sae)
        self.histogram = FiringHistogram(d_sae)
        self.firing_tokens = FiringTokens(d_sae, d_vocab)
        self.examples = TopExamples(d_sae, n_examples, window)

    def statistics(self, effects: LogitEffects, level: Int[Tensor, " f"]) -> FeatureStatistics:
        tokens, shares = self.firing_tokens.most_frequent(N_FIRING_TOKENS)
        top = self.examples
        arrays = {
            "density": self.density.density(),
            "density_interval": self.density.interval(),
            "max_activation": self.histogram.maximum,
            "mean_activation": self.histogram.mean(),
            "histogram": self.histogram.counts,
            "bin_edges": self.histogram.edges,
            "top_values": top.values,
            "top_tokens": top.tokens,
            "top_acts": top.acts,
            "top_peak": top.peak,
            "top_document": top.document,
            "top_position": top.position,
            "raised_tokens": effects.raised_tokens,
            "raised_logits": effects.raised_logits,
            "lowered_tokens": effects.lowered_tokens,
            "lowered_logits": effects.lowered_logits,
            "firing_tokens": tokens,
            "firing_token_share": shares,
            "level": level,
        }
        numpy = {name: tensor.numpy() for name, tensor in arrays.items()}
        return FeatureStatistics(self.n_tokens, self.density.n_documents, self.d_sae, **numpy)


def _on_cpu(code: Code) -> Code:
    return Code(code.values.float().cpu(), code.features.long().cpu(), code.row_offsets.cpu(), code.d_sae)


def save_features(folder: Path, statistics: FeatureStatistics) -> None:
    """Write features.safetensors and features.json; the folder appears whole or not at all.

    Raises: StorageError if it cannot be written.
    """
    tensors = {name: torch.from_numpy(np.ascontiguousarray(getattr(statistics, name))) for name in _ARRAYS}
    with new_folder(folder) as temporary:
        digest = write_tensors(temporary / "features.safetensors", tensors)
        head: dict[str, Any] = {name: getattr(statistics, name) for name in _COUNTS}
        write_json(temporary / "features.json", {"schema_version": SCHEMA_VERSION, **head, "sha256": digest})


def load_features(folder: Path) -> FeatureStatistics:
    """Read what `save_features` wrote.

    Raises: ArtifactError naming the file that is missing, damaged or of another version.
    """
    head = read_json(folder / "features.json")
    if not isinstance(head, dict) or head.get("schema_version") != SCHEMA_VERSION:
        raise ArtifactError(f"{folder / 'features.json'}: not version {SCHEMA_VERSION}; collect the features again")
    tensors = read_tensors(folder / "features.safetensors", sha256=head.get("sha256"))
    missing = sorted((set(_ARRAYS) - set(tensors)) | (set(_COUNTS) - set(head)))
    if missing:
        raise ArtifactError(f"{folder}: holds no {missing[0]}; collect the features again")
    arrays = {name: tensors[name].numpy() for name in _ARRAYS}
    return FeatureStatistics(int(head["n_tokens"]), int(head["n_documents"]), int(head["d_sae"]), **arrays)


_COUNTS = ("n_tokens", "n_documents", "d_sae")
_ARRAYS = tuple(field.name for field in fields(FeatureStatistics) if field.name not in _COUNTS)
