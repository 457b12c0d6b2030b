"""Group-max SAEs: the strongest feature of each of k groups. Read for inference."""

from typing import final

import torch

from interp.code import Code, offsets_of
from saes.inference_only import InferenceOnlySAE
from saes.ops.encode import Preactivations
from saes.ops.select import Selection


@final
class GroupMaxSAE(InferenceOnlySAE):
    """Of each of k groups of neighbouring features, keeps the largest if it is positive.

    Source: the groupmax activation of the sparsify library.
    """

    def select_at_inference(self, pre: Preactivations) -> Selection:
        k, n_rows = self.config.k, pre.centred.shape[0]
        values = pre.centred.new_empty(n_rows, k)
        features = torch.empty(n_rows, k, dtype=torch.int64, device=values.device)
        first = torch.arange(0, self.d_sae, self.d_sae // k, device=values.device)
        for offset, chunk in pre:
            largest = chunk.unflatten(1, (k, -1)).max(2)
            values[offset :: pre.n_chunks] = largest.values
            features[offset :: pre.n_chunks] = largest.indices + first
        keep = values > 0
        return Selection(Code(values[keep], features[keep], offsets_of(keep.sum(1)), self.d_sae), 0)
