"""Dictionaries that no network learned, as SAEs: PCA, ICA, k-means, random directions, the neurons themselves.

Axes: n sampled tokens, d width of the activations, m components, f features.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from interp.config import closest
from interp.errors import ConfigError, DataError
from saes.base import SAE
from saes.centroids import nearest_centroid
from saes.config import SAEConfig
from saes.topk import TopKSAE

Kind = Literal["pca", "ica", "kmeans", "random", "neurons"]
KINDS: tuple[Kind, ...] = get_args(Kind)
TITLES: Mapping[Kind, str] = {
    "pca": "PCA",
    "ica": "ICA",
    "kmeans": "k-means",
    "random": "Random directions",
    "neurons": "Neurons",
}
"""What a reader is told that a baseline is."""
RANK_TOLERANCE = 1e-9
"""Directions with less than this share of the largest variance hold rounding errors only."""
ICA_ITERATIONS = 500
KMEANS_BATCH = 4096
ENCODED_TOKENS = 8192


@dataclass(frozen=True, slots=True)
class Baseline:
    """A fitted baseline; `facts` are what its fit tells of itself."""

    kind: Kind
    sae: SAE
    facts: Mapping[str, Any] = field(default_factory=dict)


def fit_baseline(
    kind: str, sample: Float[Tensor, "n d"], *, k: int, d_sae: int, seed: int, hooks: tuple[str, ...]
) -> Baseline:
    """Fit a baseline to a sample of activations. Its `sae` goes wherever a trained SAE goes.

    pca, ica, neurons: two features for each component, one a sign, at most d_sae of them (neurons: two for each
    column, whatever d_sae); every token keeps its k largest contributions, activation times norm of the decoder row,
    which is one. PCA's components are orthogonal, so that these k are the best k. random: d_sae random unit directions
    read and write; one gain for all, by least squares on the sample, which leaves alone what is chosen. kmeans: d_sae
    centroids, of which each token is the nearest one; L0 is 1, whatever k. All reconstruct about the sample's mean.

    Raises: ConfigError for an unknown kind or numbers that do not fit; DataError if the sample is too small.
    """
    if kind not in KINDS:
        raise ConfigError(f"baseline: got {kind!r}; {closest(kind, list(KINDS))}")
    if kind == "kmeans" and sample.shape[0] < d_sae:
        raise DataError(f"got {sample.shape[0]:,} tokens for {d_sae:,} centroids; give more tokens, or fewer features")
    if sample.shape[0] < 2 * sample.shape[1]:
        raise DataError(
            f"got {sample.shape[0]:,} tokens of width {sample.shape[1]:,}; a baseline needs twice as many as columns; "
            "give more tokens"
        )
    return _FITS[kind](_Task(sample.detach(), k, d_sae, seed, hooks))


@dataclass(frozen=True, slots=True)
class _Task:
    """What every fit is given, in float64 where it is summed."""

    sample: Float[Tensor, "n d"]
    k: int
    d_sae: int
    seed: int
    hooks: tuple[str, ...]

    @property
    def mean(self) -> Float[Tensor, " d"]:
        return self.sample.mean(0, dtype=torch.float64)

    @property
    def n_components(self) -> int:
        """How many fit, at two features each.

        Raises: ConfigError if none does.
        """
        if self.d_sae < 2:
            raise ConfigError(f"d_sae: got {self.d_sae}; expected at least 2, the two signs of a component")
        return self.d_sae // 2


def _pca(task: _Task) -> Baseline:
    basis = _principal(task)
    rows = basis.directions.T
    return Baseline("pca", _signed(task, rows, rows), {"n_components": rows.shape[0], "kept_variance": basis.share})


def _ica(task: _Task) -> Baseline:
    """FastICA on whitened components; what a unit of a source adds to the activations is its decoder row."""
    from sklearn.decomposition import FastICA
    from sklearn.exceptions import ConvergenceWarning

    basis, mean = _principal(task), task.mean
    spread = basis.variances.sqrt()
    white = ((task.sample.double() - mean) @ basis.directions) / spread
    ica = FastICA(whiten=False, random_state=task.seed, max_iter=ICA_ITERATIONS)
    with warnings.catch_warnings():
        # Told as a fact: real activations often have no more independent directions to settle on.
        warnings.simplefilter("ignore", ConvergenceWarning)
        ica.fit(white.cpu().numpy())
    # Orthogonal, since what it was given is white.
    rotation = torch.from_numpy(ica.components_).to(white)
    read, written = rotation / spread @ basis.directions.T, rotation * spread @ basis.directions.T
    norms = torch.linalg.vector_norm(written, dim=1)
    order = norms.argsort(descending=True)
    read, written, norms = read[order], written[order], norms[order, None]
    facts = {"n_components": len(order), "kept_variance": basis.share, "n_iterations": int(ica.n_iter_)}
    facts["converged"] = facts["n_iterations"] < ICA_ITERATIONS
    return Baseline("ica", _signed(task, read * norms, written / norms), facts)


def _neurons(task: _Task) -> Baseline:
    identity = torch.eye(task.sample.shape[1], dtype=torch.float64, device=task.sample.device)
    return Baseline("neurons", _signed(task, identity, identity), {"n_components": identity.shape[0]})


def _random(task: _Task) -> Baseline:
    generator = torch.Generator().manual_seed(task.seed)
    rows = torch.randn(task.d_sae, task.sample.shape[1], generator=generator, dtype=torch.float64)
    rows = torch.nn.functional.normalize(rows, dim=1).to(task.sample.device)
    sae = _top_k(task, rows, rows)
    gain = _gain(sae, task.sample)
    with torch.no_grad():
        sae.W_enc.mul_(gain)
    return Baseline("random", sae, {"gain": gain})


@torch.no_grad()
def _gain(sae: SAE, sample: Float[Tensor, "n d"]) -> float:
    """What the reconstruction about the mean is best multiplied by: Σ x·x̂ / Σ‖x̂‖²."""
    product = power = 0.0
    for x in sample.split(ENCODED_TOKENS):
        x_hat = (sae.decode(sae.encode(x)) - sae.b_dec).double()
        product += float((x_hat * (x - sae.b_dec)).sum())
        power += float(x_hat.square().sum())
    return product / power if power > 0 else 1.0


def _kmeans(task: _Task) -> Baseline:
    from sklearn.cluster import MiniBatchKMeans

    means = MiniBatchKMeans(task.d_sae, random_state=task.seed, batch_size=KMEANS_BATCH, n_init=1)
    means.fit(task.sample.float().cpu().numpy())
    centroids = torch.from_numpy(means.cluster_centers_).to(task.sample)
    sae = nearest_centroid(centroids, task.mean.to(centroids), hooks=task.hooks)
    return Baseline("kmeans", sae, {"n_iterations": int(means.n_iter_)})


_FITS: Mapping[str, Callable[[_Task], Baseline]] = {
    "pca": _pca,
    "ica": _ica,
    "kmeans": _kmeans,
    "random": _random,
    "neurons": _neurons,
}


@dataclass(frozen=True, slots=True)
class _Basis:
    """Principal directions as columns, largest variance first; `share` is what they hold of all variance."""

    directions: Float[Tensor, "d m"]
    variances: Float[Tensor, " m"]
    share: float


def _principal(task: _Task) -> _Basis:
    centred = task.sample.double() - task.mean
    variances, directions = torch.linalg.eigh(centred.T @ centred / (centred.shape[0] - 1))
    variances, directions = variances.flip(0), directions.flip(1)
    if float(variances[0]) <= 0:
        raise DataError(f"got {centred.shape[0]:,} tokens whose activations do not vary; choose another hook")
    n = min(task.n_components, int((variances > RANK_TOLERANCE * variances[0]).sum()))
    return _Basis(directions[:, :n], variances[:n], float(variances[:n].sum() / variances.clamp(min=0).sum()))


def _signed(task: _Task, read: Float[Tensor, "m d"], written: Float[Tensor, "m d"]) -> TopKSAE:
    """A feature for each sign of each component: m positive ones, then m negative ones."""
    return _top_k(task, torch.cat([read, -read]), torch.cat([written, -written]))


@torch.no_grad()
def _top_k(task: _Task, encoder: Float[Tensor, "f d"], decoder: Float[Tensor, "f d"]) -> TopKSAE:
    config = SAEConfig.parse({"architecture": "topk", "d_sae": encoder.shape[0], "k": task.k, "n_prefixes": 1})
    sae = TopKSAE(config, encoder.shape[1], hooks_in=task.hooks, device=task.sample.device)
    sae.W_enc.copy_(encoder)
    sae.W_dec.copy_(decoder)
    sae.b_dec.copy_(task.mean)
    return sae.eval()
