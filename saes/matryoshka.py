"""Matryoshka BatchTopK: nested prefixes of the dictionary each reconstruct the input alone."""

from typing import final

from saes.batch_topk import BatchSelectedSAE
from saes.prefixes import draw_prefixes as draw_prefixes


@final
class MatryoshkaSAE(BatchSelectedSAE):
    """BatchTopK whose loss adds up the errors of nested prefixes, so that general features come first.

    What makes it so is the config, which nests prefixes; with `nest` those of the other architectures are nested too.
    Source: Bussmann et al. 2025 (arXiv 2503.17547), section 3.
    """
