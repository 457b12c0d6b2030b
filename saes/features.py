"""Everything about every feature of a dictionary, from one pass of the model over a corpus.

Memory holds the decoder, one block of features with its windows, about 25 bytes a token, about 2.5 KB a feature for
what is kept of it (windows apart), and 4 bytes for each feature in each shard of 65,536 tokens. The disk holds, until
the pass is done, 12 bytes a firing.
"""

import tempfile
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.activations.harvest import harvest_batch
from interp.models import Model
from interp.storage import new_folder, restore_folder, told
from saes.base import SAE
from saes.crosscoder import hook_shares
from saes.facts import SAEFacts, check_same_origin
from saes.feature_export import export_parquet
from saes.feature_files import WINDOWS_FILE, load_features, save_features, write_head
from saes.feature_index import SEARCHED_WINDOWS, labels_to_keep, write_index
from saes.feature_pass.describe import Corpus, describe
from saes.feature_pass.pass_facts import pass_facts
from saes.feature_pass.settings import FeatureSettings
from saes.feature_pass.shards import Piece, ShardBuilder, on_cpu
from saes.feature_pass.spill import Spill
from saes.feature_statistics import FeatureStatistics
from saes.feature_store import FeatureStore
from saes.feature_windows import Records, Windows, iter_strongest
from saes.hook_layout import hook_columns
from saes.logit_effects import LogitEffects, logit_effects
from saes.token_sample import TokenSource, iter_sample

__all__ = [
    "FeatureSettings",
    "FeatureStatistics",
    "FeatureStore",
    "Windows",
    "collect_features",
    "export_parquet",
    "levels_of",
    "load_features",
    "save_features",
    "write_features",
]

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much is done and how much there is in all."""


def collect_features(
    model: Model,
    sae: SAE,
    source: TokenSource,
    settings: FeatureSettings,
    *,
    facts: SAEFacts | None = None,
    allow_mismatch: bool = False,
    on_progress: Progress | None = None,
) -> FeatureStatistics:
    """As `write_features`, with the result in memory and nothing left on disk."""
    with tempfile.TemporaryDirectory(prefix="features-") as folder:
        mapped = write_features(
            model, sae, source, Path(folder) / "features", settings,
            facts=facts, allow_mismatch=allow_mismatch, on_progress=on_progress,
        )  # fmt: skip
        return mapped.in_memory()


def write_features(
    model: Model,
    sae: SAE,
    source: TokenSource,
    folder: Path,
    settings: FeatureSettings,
    *,
    facts: SAEFacts | None = None,
    allow_mismatch: bool = False,
    token_texts: Sequence[str] = (),
    on_progress: Progress | None = None,
) -> FeatureStatistics:
    """One pass over about settings.n_tokens kept tokens of `source`, written to `folder`.

    Logit effects are those of what a feature writes; of a crosscoder, at its last hook. What is not finished stands in
    `<folder>.partial`; the next call with the same model, SAE, text and settings goes on from there and writes the same
    bytes as an unbroken pass. `token_texts` make the shown text searchable. An older pass over the same SAE is
    replaced, its labels are kept.

    Raises: ArtifactError if `facts` name another model or mask policy, unless `allow_mismatch`, or if the folder holds
    labels of another SAE; UnknownHookError if the model lacks the SAE's hook; DataError if the source holds no usable
    token; StorageError if the disk is full.
    """
    if facts is not None and not allow_mismatch:
        check_same_origin(facts, model, source)
    tell = on_progress or (lambda _what, _done, _total: None)
    provenance = pass_facts(model, sae, source, settings)
    restore_folder(folder)
    # Better told now than at the end of the pass.
    labels_to_keep(folder, provenance["sae"])
    spill = Spill(folder.with_name(f"{folder.name}.partial"), provenance)
    spill_codes(model, sae, source, spill, settings, tell)
    directions = sae.directions(torch.arange(sae.d_sae, device=model.device)).detach()
    corpus = Corpus.of(spill, model.d_vocab, directions, levels_of(sae.d_sae, sae.config.prefix_widths()))
    hooks = _of_hooks(model, sae, directions)
    with new_folder(folder, within=spill.folder) as temporary:
        with told(folder), (temporary / WINDOWS_FILE).open("wb") as file:

            def write(records: Records) -> None:
                file.write(records.tobytes())

            columns = describe(corpus, settings, write, lambda done: tell("statistics", done, sae.d_sae))
        write_head(temporary, columns | hooks, settings.layout(), provenance)
        shown = iter_strongest(temporary / WINDOWS_FILE, settings.layout(), sae.d_sae, SEARCHED_WINDOWS)
        labels = labels_to_keep(folder, provenance["sae"])
        write_index(temporary, load_features(temporary), shown, token_texts, labels=labels)
    spill.remove()
    return load_features(folder)


def _of_hooks(model: Model, sae: SAE, directions: Float[Tensor, "f d"]) -> dict[str, np.ndarray]:
    """What the decoder alone tells: logit effects at the last hook that is written; of several, the shares of each."""
    last = sae.hooks_out[-1]
    effects = logit_effects(model, last, directions[:, hook_columns(model, sae.hooks_out)[last]])
    found = {name: getattr(effects, name).numpy() for name in LogitEffects.__slots__}
    return found | ({"hook_share": hook_shares(sae).float().cpu().numpy()} if len(sae.hooks_out) > 1 else {})


def spill_codes(
    model: Model, sae: SAE, source: TokenSource, spill: Spill, settings: FeatureSettings, tell: Progress
) -> None:
    """Run the model and the SAE over what the spill does not hold yet."""
    if spill.complete:
        return
    builder, n_batches, n_kept = ShardBuilder(sae.d_sae), spill.n_batches, spill.n_kept
    batches = islice(iter_sample(source, settings.n_tokens, seed=settings.seed), n_batches, None)
    for batch in batches:
        acts = harvest_batch(model, batch, sae.hooks_in)
        with torch.no_grad():
            builder.add(Piece.of(batch, on_cpu(sae.encode(acts.stacked(sae.hooks_in)))))
        n_batches, n_kept = n_batches + 1, n_kept + len(acts)
        if builder.full:
            spill.add(builder.build(), n_batches)
        tell("features", min(n_kept, settings.n_tokens - 1), settings.n_tokens)
    if not builder.empty:
        spill.add(builder.build(), n_batches)
    spill.finish()
    tell("features", settings.n_tokens, settings.n_tokens)


def levels_of(d_sae: int, prefixes: Sequence[int]) -> Int[np.ndarray, " f"]:
    """Group of each feature: 1 within the first prefix, 2 in what the second adds; 1 for all without prefixes."""
    inner = np.array([width for width in prefixes if width < d_sae], dtype=np.int64)
    return np.searchsorted(inner, np.arange(d_sae), side="right") + 1
