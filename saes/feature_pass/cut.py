"""Chosen firings -> windows of text around them.

Axes: f features of a block, E windows, m chosen firings, w window length.
"""

import numpy as np

from saes.feature_pass.choose import Chosen
from saes.feature_pass.ragged import ranges
from saes.feature_pass.spill import Firings
from saes.feature_pass.text import Text
from saes.feature_windows import Records, empty_records

LEFT_SHARE = 2 / 3
"""Part of a window before the peak, where the document has that much."""
LARGEST_HALF = 65504.0


def cut_windows(firings: Firings, text: Text, chosen: Chosen, n_windows: int, width: int) -> Records:
    """Records of `n_windows` per feature with the chosen ones filled in."""
    records = empty_records(firings.n_features, n_windows, width)
    if chosen.entry.size == 0:
        return records
    place = firings.places[chosen.entry]
    span = text.span[place]
    begin, end = text.begin[span], text.begin[span + 1]
    start = np.maximum(np.minimum(place - int(width * LEFT_SHARE), end - width), begin)
    where = start[:, None] + np.arange(width)
    inside = where < end[:, None]
    last = np.minimum(start + width, end)
    filled = np.zeros(chosen.entry.shape[0], records.dtype)
    filled["value"] = firings.values[chosen.entry]
    filled["peak"] = place - start
    filled["document"] = text.document[span]
    filled["position"] = text.position[span] + place - begin
    filled["tokens"] = np.where(inside, text.token_ids[np.minimum(where, text.token_ids.shape[0] - 1)], -1)
    filled["acts"] = _acts(firings, text, chosen, start, last, width)
    records[chosen.row, chosen.slot] = filled
    return records


def _acts(firings: Firings, text: Text, chosen: Chosen, start: np.ndarray, last: np.ndarray, width: int) -> np.ndarray:
    """The feature's activations from `start` to before `last`; few tokens of a window fire, so only those are read."""
    n_places = text.token_ids.shape[0] + 1
    keys = firings.rows() * n_places + firings.places
    low, high = (np.searchsorted(keys, chosen.row * n_places + bound) for bound in (start, last))
    entry, window = ranges(low, high - low), np.repeat(np.arange(start.shape[0]), high - low)
    acts = np.zeros((start.shape[0], width), np.float32)
    acts[window, firings.places[entry] - start[window]] = firings.values[entry]
    return np.minimum(acts, LARGEST_HALF)
