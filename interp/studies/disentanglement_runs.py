"""Disentanglement of a finished run: its features beside neurons, rotated neurons, probes' directions and a null."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray

from interp.errors import ConfigError
from interp.runs import source_commit, this_command
from probes.concept_activations import ConceptActivations, encode_features, harvest_concept
from probes.concept_files import load_concepts
from probes.concept_generator import bundled_concepts
from probes.concepts import ExampleSet
from probes.disentanglement import Disentanglement, Factor, Tell, disentangle, with_shuffled_labels
from probes.disentanglement_report import DisentanglementReport
from probes.labelled_sets import Clusters, labelled_set
from probes.logistic import fit_logistic
from saes import OpenedSAE, open_sae

FEATURES, NEURONS, ROTATED = "features", "neurons", "neurons, rotated"
DIRECTIONS, NULL = "probe directions", "features, labels shuffled"
LEAST_FIRINGS = 5
"""Examples on which a feature must fire to be a code: fewer cannot be told from none."""


def run_disentanglement(
    source: Path | str,
    *,
    concepts_file: Path | None = None,
    sets: Sequence[str] = (),
    labels_file: Path | None = None,
    attributes: Sequence[str] = (),
    examples: int = 1000,
    clusters: Clusters = "word",
    halves: int = 20,
    seed: int = 0,
    model_name: str | None = None,
    device: str = "auto",
    tell: Tell | None = None,
) -> list[DisentanglementReport]:
    """One report for each set of examples with two kinds of labels or more, for each of `sets`, or for `labels_file`.

    `attributes`, `examples` and `clusters` are of `labels_file` (see `labelled_set`).

    Raises: ArtifactError if the SAE cannot be opened; ConfigError if there is no such set, or the SAE writes where it
    does not read, or attributes or documents are asked for without `labels_file`; DataError for a malformed file of
    concepts.
    """
    if labels_file is None and (attributes or clusters != "word"):
        raise ConfigError("got --attributes or --clusters without --labels; sets of concepts have their own; leave out")
    opened = open_sae(source, model_name=model_name, device=device)
    if labels_file is None:
        chosen = _chosen(_sets(opened, concepts_file), sets)
    else:
        fits = _fits(opened)
        chosen = [labelled_set(labels_file, attributes, examples=examples, clusters=clusters, fits=fits, seed=seed)]
    about = {
        "source": str(source),
        "model": opened.model.facts,
        "hook": ", ".join(opened.sae.hooks_in),
        "architecture": opened.facts.architecture,
        "labels": str(labels_file or concepts_file or "bundled concepts"),
        "clusters": clusters,
        "seed": seed,
        "halves": halves,
        "least_firings": LEAST_FIRINGS,
        "command": this_command(),
        "commit": source_commit(),
    }
    reports = []
    for concept in chosen:
        data = harvest_concept(opened.model, concept, opened.sae.hooks_in)
        arms = tuple(iter_arms(opened, data, halves=halves, seed=seed, tell=_prefixed(tell, data.name)))
        reports.append(DisentanglementReport(data.name, arms, about))
    return reports


def _fits(opened: OpenedSAE) -> Callable[[str], bool]:
    """Whether the model reads a text in one piece, with two tokens around it."""
    tokenizer, most = opened.model.tokenizer, opened.model.context_size - 2
    return lambda text: len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]) <= most


def _sets(opened: OpenedSAE, concepts_file: Path | None) -> list[ExampleSet]:
    concepts = bundled_concepts(opened.model.tokenizer) if concepts_file is None else load_concepts(concepts_file)
    return [one for one in concepts.concepts if isinstance(one, ExampleSet)]


def _chosen(held: Sequence[ExampleSet], names: Sequence[str]) -> list[ExampleSet]:
    known = [one.name for one in held]
    if absent := [name for name in names if name not in known]:
        raise ConfigError(f"--sets: got {absent[0]!r}; expected some of {', '.join(known)}")
    chosen = [one for one in held if (one.name in names if names else len(one.attributes) > 1)]
    if not chosen:
        raise ConfigError(
            f"got no set of examples with two kinds of labels or more (sets: {', '.join(known) or 'none'}); name some "
            "with --sets, or give other concepts"
        )
    return chosen


def _prefixed(tell: Tell | None, prefix: str) -> Tell | None:
    return None if tell is None else (lambda stage, done, total: tell(f"{prefix}, {stage}", done, total))


def iter_arms(
    opened: OpenedSAE, data: ConceptActivations, *, halves: int, seed: int, tell: Tell | None
) -> Iterator[Disentanglement]:
    """Every arm on the same examples, words as clusters."""
    factors = [Factor(name, classes, data.labels[name]) for name, classes in data.attributes.items()]
    acts = data.acts.numpy().astype(np.float64)
    ids, features = _features(opened, data)
    codes = {
        FEATURES: features,
        NEURONS: acts,
        ROTATED: acts @ _rotation(acts.shape[1], seed),
        DIRECTIONS: probe_scores(acts, factors, data.word, seed=seed),
    }
    for name, x in codes.items():
        own = ids if name == FEATURES else None
        yield disentangle(name, x, factors, data.word, ids=own, n_halves=halves, seed=seed, tell=tell)
    null = with_shuffled_labels(factors, data.word, seed=seed)
    yield disentangle(NULL, features, null, data.word, ids=ids, n_halves=halves, seed=seed, tell=tell)


def _features(opened: OpenedSAE, data: ConceptActivations) -> tuple[list[int], Float[ndarray, "n f"]]:
    """Features that fire often enough on these examples, with their values."""
    found = encode_features(opened.sae, data.acts.to(opened.model.device))
    share = found.density(np.ones(found.n_rows, dtype=bool))
    chosen = torch.nonzero(share * found.n_rows > LEAST_FIRINGS - 0.5).flatten()
    return chosen.tolist(), found.columns(chosen.numpy()).double().numpy()


def _rotation(d: int, seed: int) -> Float[ndarray, "d d"]:
    return np.asarray(np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0])


def probe_scores(
    acts: Float[ndarray, "n d"], factors: Sequence[Factor], word: Int[ndarray, " n"], *, seed: int = 0
) -> Float[ndarray, "n p"]:
    """Log-odds of a logistic probe for each class (one for two classes), of every word by probes fitted on others."""
    draw = np.random.default_rng(seed)
    names = np.unique(word)
    first = np.isin(word, draw.permutation(names)[: names.size // 2])
    asked = [
        factor.labels == positive
        for factor in factors
        for positive in (range(1) if len(factor.classes) == 2 else range(len(factor.classes)))
    ]
    scores = np.zeros((acts.shape[0], len(asked)))
    for fitted in (first, ~first):
        for index, y in enumerate(asked):
            scores[~fitted, index] = fit_logistic(acts[fitted], y[fitted]).score(acts[~fitted])
    return scores
