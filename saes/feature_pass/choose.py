"""Which firings of each feature are shown: the strongest spans, uniform draws, and uniform draws from each band.

Axes: e firings of a block, m chosen ones, Q bands.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from saes.feature_pass.ragged import largest_in_rows, ranges, run_starts
from saes.feature_pass.spill import Firings
from saes.feature_pass.text import Text, mix

_LOW = np.uint64(0xFFFFFFFF)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Entries of a block's firings, the feature of the block each belongs to, and which window it fills."""

    entry: Int[np.ndarray, " m"]
    row: Int[np.ndarray, " m"]
    slot: Int[np.ndarray, " m"]


def strongest_spans(firings: Firings, text: Text, k: int, seed: int = 0) -> Chosen:
    """The peaks of the k strongest spans of every feature, strongest first.

    A span gives a feature at most one window, its peak, or one loud passage would fill the list. Ties are broken by
    first occurrence; but of features all of whose firings are equal, as a codebook's are, spans and peaks are drawn
    uniformly, or all of them would show how the same few documents begin.
    """
    if firings.values.size == 0:
        return _nothing()
    rows = firings.rows()
    values = _drawn_where_equal(firings, rows, seed)
    starts = run_starts(rows * text.document.shape[0] + text.span[firings.places])
    peak_value = np.maximum.reduceat(values, starts)
    run, slot = largest_in_rows(rows[starts], peak_value, k)
    length = np.diff(np.append(starts, rows.shape[0]))[run]
    entries, owner = ranges(starts[run], length), np.repeat(np.arange(run.shape[0]), length)
    peaks = np.flatnonzero(values[entries] == peak_value[run][owner])
    first = run_starts(owner[peaks])
    entry = entries[peaks[first]]
    return Chosen(entry, rows[entry], slot)


def _drawn_where_equal(firings: Firings, rows: Int[np.ndarray, " e"], seed: int) -> Float[np.ndarray, " e"]:
    """The values, and random ones for features whose values are all the same."""
    starts = run_starts(rows)
    low, high = (extreme.reduceat(firings.values, starts) for extreme in (np.minimum, np.maximum))
    equal = np.repeat(low == high, np.diff(np.append(starts, rows.shape[0])))
    if not equal.any():
        return firings.values
    # Mixed once more: the other windows use these bits, or all lists would show the same firings.
    drawn = (mix(_priority(firings, seed)) >> np.uint64(40)).astype(np.float32)
    return np.where(equal, drawn, firings.values.astype(np.float32))


def random_firings(firings: Firings, k: int, seed: int) -> Chosen:
    """k firings of every feature, uniform among all of its firings and without replacement."""
    return _lowest(firings.rows(), _priority(firings, seed) >> np.uint64(32), k)


def band_firings(firings: Firings, edges: Float[np.ndarray, "f Q_plus_1"], each: int, seed: int) -> Chosen:
    """`each` firings from every band of every feature, uniform within the band; the slots of band q come q-th."""
    rows, n_bands = firings.rows(), edges.shape[1] - 1
    band = np.zeros(rows.shape[0], dtype=np.int64)
    for q in range(1, n_bands):
        band += firings.values >= edges[rows, q]
    # The random windows use the other half of the bits, or both lists would show the same firings.
    drawn = _lowest(rows * n_bands + band, _priority(firings, seed) & _LOW, each)
    return Chosen(drawn.entry, drawn.row // n_bands, drawn.row % n_bands * each + drawn.slot)


def _priority(firings: Firings, seed: int) -> np.ndarray:
    """64 random-looking bits for each (feature, place), the same in whatever order and blocks they are met."""
    feature = (firings.rows() + firings.first).astype(np.uint64) << np.uint64(32)
    return mix(mix(feature | firings.places.astype(np.uint64)) + np.uint64(seed))


def _lowest(group: Int[np.ndarray, " e"], priority: np.ndarray, k: int) -> Chosen:
    if k == 0 or group.size == 0:
        return _nothing()
    entry, slot = largest_in_rows(group, _LOW - priority, k)
    return Chosen(entry, group[entry], slot)


def _nothing() -> Chosen:
    none = np.zeros(0, dtype=np.int64)
    return Chosen(none, none, none)
