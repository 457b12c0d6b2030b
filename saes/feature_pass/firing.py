"""How often and how strongly each feature of a block fires.

Axes: f features of the block, e firings, h bins, p documents.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from saes.feature_pass.ragged import count_keys
from saes.feature_pass.spill import Firings
from saes.feature_pass.text import Text

N_BINS = 60
DECADES = 4
Z_95 = 1.959964


@dataclass(frozen=True, slots=True)
class Strength:
    """Strength of a block's firings; 0 (edges: NaN) for a feature that never fired."""

    maximum: Float[np.ndarray, " f"]
    mean: Float[np.ndarray, " f"]
    histogram: Int[np.ndarray, "f h"]
    edges: Float[np.ndarray, "f Q_plus_1"]


def bin_edges(largest: float) -> Float[np.ndarray, " h_plus_1"]:
    """Log-spaced edges over four decades up to the largest activation."""
    top = np.log10(largest or 1.0)
    return np.logspace(top - DECADES, top, N_BINS + 1)


def strength(firings: Firings, *, largest: float, n_bands: int) -> Strength:
    """Maximum, mean, histogram and the edges of bands of equal count.

    The lower edge of band q is the value of rank ceil(q n / Q) among n firings, so that bands differ by one at most,
    but for ties, which all fall in the higher band.
    """
    rows, fired = firings.rows(), firings.counts > 0
    starts = firings.offsets[:-1][fired]
    maximum, mean = np.zeros(firings.n_features, np.float32), np.zeros(firings.n_features, np.float32)
    if starts.size:
        maximum[fired] = np.maximum.reduceat(firings.values, starts)
        mean[fired] = np.add.reduceat(firings.values, starts, dtype=np.float64) / firings.counts[fired]
    place = (np.log10(firings.values, dtype=np.float64) - np.log10(largest or 1.0) + DECADES) * (N_BINS / DECADES)
    cells = rows * N_BINS + np.clip(place.astype(np.int64), 0, N_BINS - 1)
    histogram = np.bincount(cells, minlength=firings.n_features * N_BINS).reshape(firings.n_features, N_BINS)
    return Strength(maximum, mean, histogram, _band_edges(firings, rows, n_bands))


def _band_edges(firings: Firings, rows: Int[np.ndarray, " e"], n_bands: int) -> Float[np.ndarray, "f Q_plus_1"]:
    key = (rows.astype(np.uint64) << np.uint64(32)) | firings.values.view(np.uint32).astype(np.uint64)
    ordered = (np.sort(key) & np.uint64(0xFFFFFFFF)).astype(np.uint32).view(np.float32)
    counts = firings.counts[:, None]
    rank = np.minimum(-(-np.arange(n_bands + 1) * counts // n_bands), np.maximum(counts - 1, 0))
    edges = np.full(rank.shape, np.nan, np.float32)
    fired = counts[:, 0] > 0
    edges[fired] = ordered[(firings.offsets[:-1, None] + rank)[fired]]
    return edges


def density_interval(firings: Firings, text: Text) -> Float[np.ndarray, "f 2"]:
    """95% interval of the density over documents; [0, 1] where there are fewer than two.

    Taken on the logarithm, so that it stays above zero for rare features. For a feature that never fired the upper end
    is the rule of three, 3 / tokens, which supposes one firing per document.

    Source: variance of a ratio under cluster sampling, Cochran 1977, section 9A.
    """
    n_documents, n_tokens = int((text.doc_tokens > 0).sum()), max(text.n_kept, 1)
    if n_documents < 2:
        return np.tile([0.0, 1.0], (firings.n_features, 1))
    cells, counts = count_keys(firings.rows() * text.n_documents + text.documents_of(firings.places))
    row, length = cells // text.n_documents, text.doc_tokens[cells % text.n_documents]
    squares, crossed = (np.bincount(row, counts * x, firings.n_features) for x in (counts, length))
    density = firings.counts / n_tokens
    spread = squares - 2 * density * crossed + density**2 * np.square(text.doc_tokens).sum()
    variance = np.maximum(spread, 0) * n_documents / (n_documents - 1) / n_tokens**2
    factor = np.exp(Z_95 * np.sqrt(variance) / np.maximum(density, 1e-300))
    interval = np.stack([density / factor, np.minimum(density * factor, 1.0)], axis=1)
    return np.where((density > 0)[:, None], interval, [0.0, min(1.0, 3 / n_tokens)])
