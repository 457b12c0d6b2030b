"""Members of a sweep that differ in their seed alone, and how much of each is found again in the other."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from scipy import sparse

from interp.activations.harvest import harvest_batch
from interp.recording import ProgressLines
from saes.base import SAE
from saes.run_parts import RunParts
from saes.stability import Firings, Stability, stability
from saes.token_sample import iter_sample
from saes.train_config import TrainConfig
from saes.training import FREE_ON_RESUME

NO_OTHER_DICTIONARY = frozenset(
    ("seed", *FREE_ON_RESUME, "data.overlap_documents", "device", "model_device", "harvest.compile", "model", "dataset")
)
"""Settings in which runs of one dictionary may differ, given the same model and text: they change the seed, what is
written down of the run, where the same mathematics is computed (so results by rounding), or how a name is spelled."""
MOST_TOKENS = 50_000
"""Held-out tokens on which firing is compared, at most: rarer features are not compared at all."""
MOST_PAIRS = 6
"""Pairs of a group; of more seeds than four, each with the next one."""


@dataclass(frozen=True, slots=True)
class SeedPair:
    """Two members of a group and their likeness; None where one has no feature that fires enough."""

    group: str
    members: tuple[str, str]
    stability: Stability | None


def seed_groups(configs: Mapping[str, TrainConfig]) -> dict[str, tuple[str, ...]]:
    """Members of one model and text that are one dictionary, under the name of the first without its seed.

    They differ in NO_OTHER_DICTIONARY alone. Single ones are there too.
    """
    found: dict[str, list[str]] = {}
    for name, config in configs.items():
        found.setdefault(json.dumps(deciding_settings(config), default=str), []).append(name)
    return {_without_seed(names[0], len(names)): tuple(names) for names in found.values()}


def deciding_settings(config: TrainConfig) -> dict[str, Any]:
    """By its dotted name, every setting that makes another dictionary of a run."""
    keys = (key for key, _ in TrainConfig.leaves() if key not in NO_OTHER_DICTIONARY)
    return {key: attrgetter(key)(config) for key in keys}


def _without_seed(name: str, n_seeds: int) -> str:
    head, _, tail = name.rpartition("_s")
    return head if n_seeds > 1 and head and tail.split("-")[0].isdigit() else name


def compare_seeds(
    parts: Mapping[str, RunParts], groups: Mapping[str, Sequence[str]], *, n_tokens: int, seed: int
) -> list[SeedPair]:
    """Likeness of every pair within the groups, from one pass over held-out text.

    Raises: DataError if there is no usable token.
    """
    pairs = [(group, pair) for group, names in groups.items() for pair in _pairs(names)]
    wanted = {name: parts[name] for name in dict.fromkeys(name for _, pair in pairs for name in pair)}
    if not wanted:
        return []
    firings = _firings(wanted, min(n_tokens, MOST_TOKENS), seed)
    found = []
    with ProgressLines("seed pairs", len(pairs)) as progress:
        for done, (group, (one, two)) in enumerate(pairs, start=1):
            directions = _directions(wanted[one].sae), _directions(wanted[two].sae)
            likeness = stability(directions, (firings[one], firings[two]), seed=seed)
            found.append(SeedPair(group, (one, two), likeness))
            progress.show(done)
    return found


def _pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    every = list(itertools.combinations(names, 2))
    return every if len(every) <= MOST_PAIRS else list(itertools.pairwise(names))


@torch.no_grad()
def _firings(parts: Mapping[str, RunParts], n_tokens: int, seed: int) -> dict[str, Firings]:
    """Activations of every feature of every member on the same tokens."""
    first = next(iter(parts.values()))
    hooks = tuple(dict.fromkeys(hook for one in parts.values() for hook in one.sae.hooks_in))
    pieces: dict[str, list[Firings]] = {name: [] for name in parts}
    for batch in iter_sample(first.stream("heldout"), n_tokens, seed=seed):
        acts = harvest_batch(first.model, batch, hooks)
        for name, one in parts.items():
            code = one.sae.encode(acts.stacked(one.sae.hooks_in).float()).active()
            arrays = (code.values.cpu().numpy(), code.features.cpu().numpy(), code.row_offsets.cpu().numpy())
            pieces[name].append(sparse.csr_matrix(arrays, shape=(code.n_rows, code.d_sae)))
    return {name: sparse.vstack(rows, format="csr") for name, rows in pieces.items()}


def _directions(sae: SAE) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(sae.directions(torch.arange(sae.d_sae, device=sae.W_dec.device)).cpu().float().numpy())
