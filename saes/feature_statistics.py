"""What is known of every feature after one pass over a corpus.

Axes: f features, E windows, w window length, h histogram bins, r and q tokens, N partners, P parents, C children,
H hooks.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from saes.feature_windows import KINDS, Windows


@dataclass(frozen=True, slots=True)
class FeatureStatistics:
    """All features of one dictionary, by column. Ids are -1 where there is none; NaN means "not measured".

    density: firings per kept token; density_interval: its 95% interval over documents. mean_activation and histogram
    are over firings only (`zeros` counts the rest); bin_edges are log-spaced, what lies below falls in the first bin.

    top: strongest spans, one window each. random: firings drawn uniformly. quantile: Q bands of equal count of the
    firing values, weakest band first, an equal number drawn uniformly from each; quantile_edges bound the bands.

    raised, lowered: direct effect on the logits (saes.logit_effects). firing_tokens: tokens on which it fires most,
    with their share of its firings. level: Matryoshka group, 1 the most general.

    partners: features that fire together with this one more often than chance, highest correlation of the two firing
    indicators first, over the whole dictionary and n_coactivation_tokens tokens (saes.feature_pass.coactivation).
    neighbours: largest decoder cosine. parents, children: features of earlier and later levels that the child's firing
    implies, P(parent | child) - P(parent) largest first.

    token_auc, bigram_auc: how well the current token, or it with the one before, tells firing on unseen documents
    (saes.feature_pass.label_auc). detection_auc: how well the shown windows do (saes.feature_pass.detection).

    hook_share: of a crosscoder, the share of each feature's decoder norm at each hook (saes.crosscoder); None of a
    dictionary that writes one hook.
    """

    n_tokens: int
    n_documents: int
    d_sae: int
    n_coactivation_tokens: int
    density: Float[np.ndarray, " f"]
    density_interval: Float[np.ndarray, "f 2"]
    max_activation: Float[np.ndarray, " f"]
    mean_activation: Float[np.ndarray, " f"]
    histogram: Int[np.ndarray, "f h"]
    bin_edges: Float[np.ndarray, " h_plus_1"]
    quantile_edges: Float[np.ndarray, "f Q_plus_1"]
    top: Windows
    random: Windows
    quantile: Windows
    raised_tokens: Int[np.ndarray, "f r"]
    raised_logits: Float[np.ndarray, "f r"]
    lowered_tokens: Int[np.ndarray, "f r"]
    lowered_logits: Float[np.ndarray, "f r"]
    firing_tokens: Int[np.ndarray, "f q"]
    firing_token_share: Float[np.ndarray, "f q"]
    level: Int[np.ndarray, " f"]
    partners: Int[np.ndarray, "f N"]
    partner_count: Int[np.ndarray, "f N"]
    partner_given_feature: Float[np.ndarray, "f N"]
    feature_given_partner: Float[np.ndarray, "f N"]
    partner_lift: Float[np.ndarray, "f N"]
    partner_correlation: Float[np.ndarray, "f N"]
    neighbours: Int[np.ndarray, "f M"]
    neighbour_cosine: Float[np.ndarray, "f M"]
    parents: Int[np.ndarray, "f P"]
    parent_cosine: Float[np.ndarray, "f P"]
    parent_given_feature: Float[np.ndarray, "f P"]
    feature_given_parent: Float[np.ndarray, "f P"]
    children: Int[np.ndarray, "f C"]
    child_cosine: Float[np.ndarray, "f C"]
    child_given_feature: Float[np.ndarray, "f C"]
    feature_given_child: Float[np.ndarray, "f C"]
    token_auc: Float[np.ndarray, " f"]
    bigram_auc: Float[np.ndarray, " f"]
    detection_auc: Float[np.ndarray, " f"]
    hook_share: Float[np.ndarray, "f H"] | None = None

    @property
    def firings(self) -> Int[np.ndarray, " f"]:
        """Kept tokens on which each feature fired."""
        counts: np.ndarray = self.histogram.sum(1)
        return counts

    @property
    def zeros(self) -> Int[np.ndarray, " f"]:
        """Kept tokens on which each feature did not fire."""
        return self.n_tokens - self.firings

    @property
    def n_bands(self) -> int:
        """Q, the number of quantile bands."""
        return int(self.quantile_edges.shape[1]) - 1

    def band(self, number: int) -> Windows:
        """Windows of one quantile band; 0 is the weakest, its firings are those nearest to the threshold."""
        each = self.quantile.values.shape[1] // self.n_bands
        return self.quantile.part(number * each, (number + 1) * each)

    @property
    def near_threshold(self) -> Windows:
        """Windows of the weakest band of firings."""
        return self.band(0)

    def in_memory(self) -> "FeatureStatistics":
        """The same with the windows read from disk: the folder may go."""
        windows = {kind: getattr(self, kind).in_memory() for kind in KINDS}
        return replace(self, **windows)
