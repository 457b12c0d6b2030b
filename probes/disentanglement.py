"""How single codes stand to single kinds of labels: every disentanglement metric, with its interval.

Axes: n examples, c codes (features, neurons, projections on directions), f factors (kinds of labels).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from interp.errors import DataError, NonFiniteError, ShapeError
from probes.dci import DCI, fit_dci
from probes.geometry import geometry
from probes.half_samples import half_sample_score, random_halves
from probes.infomec import InfoMEC, active_codes, fit_infomec, info_explicitness, info_modularity
from probes.information_gaps import attribute_gap, information_gap, modularity
from probes.intervals import Score, cluster_interval
from probes.mutual_information import binned_information, entropy, neighbour_information

MIG, MODULARITY, SAP = "MIG", "modularity", "SAP"
DCI_D, DCI_C, DCI_I = "DCI disentanglement", "DCI completeness", "DCI informativeness"
INFO_M, INFO_E, INFO_C = "InfoM", "InfoE", "InfoC"
VNE, VNE_CENTRED = "VNE raw", "VNE centred"
RANK, RANK_CENTRED = "effective rank raw", "effective rank centred"
METRICS = (MIG, MODULARITY, SAP, DCI_D, DCI_C, DCI_I, INFO_M, INFO_E, INFO_C)
"""Between 0 and 1, 1 best."""
GEOMETRY = (VNE, VNE_CENTRED, RANK, RANK_CENTRED)
"""VNE in nats, ranks in dimensions; neither good nor bad in itself."""
COMMONEST = "commonest class"
"""What informativeness is when nothing is known."""
N_HALVES = 20

Tell = Callable[[str, int, int], None]
"""Is told the stage, what is done and all there is."""


@dataclass(frozen=True, slots=True)
class Factor:
    """One kind of label: which of its classes each example has. Shapes: labels (n,) index into classes."""

    name: str
    classes: tuple[str, ...]
    labels: Int[ndarray, " n"]


@dataclass(frozen=True, slots=True)
class Disentanglement:
    """Codes against factors. `scores` holds METRICS, COMMONEST and GEOMETRY; InfoM and InfoC are NaN where gated.

    Shapes: information (c, f) in nats by bins, entropies (f,), spectrum (s,) centred, descending, shares of one.
    codes: ids of the rows of `information`; n_codes: all codes, those that never vary included. ungated: InfoM and
    InfoC as they come out, whether they mean anything or not.
    """

    name: str
    factors: tuple[str, ...]
    classes: tuple[tuple[str, ...], ...]
    n_examples: int
    n_clusters: int
    n_codes: int
    n_active: int
    codes: tuple[int, ...]
    scores: Mapping[str, Score]
    gated: bool
    ungated: tuple[float, float]
    information: Float[ndarray, "c f"]
    entropies: Float[ndarray, " f"]
    spectrum: Float[ndarray, " s"]


def disentangle(
    name: str,
    codes: Float[ndarray, "n c"],
    factors: Sequence[Factor],
    clusters: Int[ndarray, " n"],
    *,
    ids: Sequence[int] | None = None,
    n_halves: int = N_HALVES,
    seed: int = 0,
    tell: Tell | None = None,
) -> Disentanglement:
    """Every metric of codes against factors; what is fitted is scored on other clusters (words, documents).

    `ids` names the codes; by default they are numbered from 0.

    Intervals of MIG, modularity, SAP, InfoM, InfoC, VNE and ranks come from `n_halves` random halves of the clusters
    (see `probes.half_samples`), those of InfoE resample clusters; DCI, which is fitted once, has none.

    Raises: ShapeError if lengths differ; DataError if a factor has one class alone or a label beyond its classes, there
    are fewer than two clusters, or no code varies; NonFiniteError for NaN or infinity among the codes.
    """
    labels = _checked(codes, factors, clusters)
    varied = np.flatnonzero(codes.max(0) > codes.min(0))
    if varied.size == 0:
        raise DataError(f"{name}: got codes that never vary on these examples; give other examples or codes")
    held = np.asarray(codes[:, varied], dtype=np.float64)
    _, member = np.unique(clusters, return_inverse=True)
    said = tell or (lambda *_: None)
    said(name, 0, n_halves + 2)
    found = fit_infomec(held, labels, member, seed=seed)
    said(name, 1, n_halves + 2)
    dci = fit_dci(held, labels, random_halves(member, 1, seed=seed)[0], seed=seed)
    said(name, 2, n_halves + 2)
    information = binned_information(held, labels)
    halves = []
    for index, half in enumerate(random_halves(member, n_halves, seed=seed + 1)):
        halves.append(_unfitted(held[half], labels[half]))
        said(name, index + 3, n_halves + 2)
    scores = _with_intervals(_unfitted(held, labels, found.nmi, information), halves)
    scores |= {INFO_E: _explicitness(found, member, seed), **_of_trees(dci)}
    ungated = (scores[INFO_M].value, scores[INFO_C].value)
    if found.is_gated:
        scores |= {INFO_M: Score(math.nan), INFO_C: Score(math.nan)}
    return Disentanglement(
        name=name,
        factors=tuple(factor.name for factor in factors),
        classes=tuple(factor.classes for factor in factors),
        n_examples=labels.shape[0],
        n_clusters=int(member.max()) + 1,
        n_codes=codes.shape[1],
        n_active=int(found.active.sum()),
        codes=tuple(int(code) for code in (varied if ids is None else np.asarray(ids)[varied])),
        scores={metric: scores[metric] for metric in (*METRICS, COMMONEST, *GEOMETRY)},
        gated=found.is_gated,
        ungated=ungated,
        information=information,
        entropies=np.array([entropy(label) for label in labels.T]),
        spectrum=geometry(held, centred=True).spectrum,
    )


def with_shuffled_labels(factors: Sequence[Factor], clusters: Int[ndarray, " n"], *, seed: int = 0) -> list[Factor]:
    """The null arm: every factor's labels dealt out anew, whole clusters at a time where a cluster has one label.

    Where labels differ within clusters single examples are dealt out.
    """
    draw = np.random.default_rng(seed)
    return [replace(factor, labels=_dealt(factor.labels, clusters, draw)) for factor in factors]


def _dealt(labels: Int[ndarray, " n"], clusters: Int[ndarray, " n"], draw: np.random.Generator) -> Int[ndarray, " n"]:
    _, first, member = np.unique(clusters, return_index=True, return_inverse=True)
    if (labels == labels[first][member]).all():
        return np.asarray(draw.permutation(labels[first])[member])
    return np.asarray(draw.permutation(labels))


def _checked(
    codes: Float[ndarray, "n c"], factors: Sequence[Factor], clusters: Int[ndarray, " n"]
) -> Int[ndarray, "n f"]:
    if not factors:
        raise DataError("got no factors; give at least one kind of label")
    sizes = {"codes": codes.shape[0], "clusters": clusters.shape[0], **{f.name: f.labels.shape[0] for f in factors}}
    if len(set(sizes.values())) > 1:
        raise ShapeError(f"got lengths {sizes}; expected one label and one cluster for every example")
    for factor in factors:
        places = range(len(factor.classes))
        if wrong := [label for label in np.unique(factor.labels).tolist() if label not in places]:
            raise DataError(
                f"factor {factor.name!r}: got label {wrong[0]}; expected 0 to {len(places) - 1}, as it has "
                f"{len(places)} classes"
            )
    if bad := int((~np.isfinite(codes)).any(1).sum()):
        raise NonFiniteError(f"got NaN or infinite codes on {bad} of {codes.shape[0]} examples; leave these out")
    if poor := next((f.name for f in factors if np.unique(f.labels).size < 2), None):
        raise DataError(f"factor {poor!r}: got one class alone; give examples of at least two")
    if np.unique(clusters).size < 2:
        raise DataError("got one cluster of examples; give at least two words or documents")
    return np.stack([f.labels for f in factors], axis=1)


def _of_trees(dci: DCI) -> dict[str, Score]:
    values = (dci.disentanglement, dci.completeness, dci.informativeness, dci.baseline)
    return {name: Score(value) for name, value in zip((DCI_D, DCI_C, DCI_I, COMMONEST), values, strict=True)}


def _with_intervals(values: Mapping[str, float], halves: Sequence[Mapping[str, float]]) -> dict[str, Score]:
    return {metric: half_sample_score(value, [half[metric] for half in halves]) for metric, value in values.items()}


def _unfitted(
    codes: Float[ndarray, "n c"],
    labels: Int[ndarray, "n f"],
    nmi: Float[ndarray, "c f"] | None = None,
    information: Float[ndarray, "c f"] | None = None,
) -> dict[str, float]:
    """What needs no held-out examples; a half in which a factor has one class has no such figures."""
    entropies = np.array([entropy(label) for label in labels.T])
    raw, centred = geometry(codes, centred=False), geometry(codes, centred=True)
    found = {
        VNE: raw.vne, VNE_CENTRED: centred.vne, RANK: raw.effective_rank, RANK_CENTRED: centred.effective_rank,
    }  # fmt: skip
    if (entropies == 0).any():
        return found | dict.fromkeys((MIG, MODULARITY, SAP, INFO_M, INFO_C), math.nan)
    m = binned_information(codes, labels) if information is None else information
    active = active_codes(codes)
    shares = neighbour_information(codes[:, active], labels) / entropies if nmi is None else nmi[active]
    return found | {
        MIG: information_gap(m, entropies),
        MODULARITY: modularity(m),
        SAP: attribute_gap(codes, labels),
        INFO_M: info_modularity(shares),
        INFO_C: info_modularity(shares.T),
    }


def _explicitness(found: InfoMEC, member: Int[ndarray, " n"], seed: int) -> Score:
    losses, base = found.losses, found.base_losses
    return cluster_interval(lambda weights: info_explicitness(losses, base, weights), member, seed=seed)
