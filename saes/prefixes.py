"""Widths of nested prefixes that are drawn anew at every step."""

from collections.abc import Callable

import torch

from saes.config import SAEConfig


def draw_prefixes(d_sae: int, n_prefixes: int, exponent: float, generator: torch.Generator) -> tuple[int, ...]:
    """Ascending distinct widths: the whole dictionary, and n_prefixes - 1 smaller ones from a truncated Pareto.

    P(width = w) is proportional to w^-a - (w + 1)^-a.
    Source: Bussmann et al. 2025 (arXiv 2503.17547), toy experiment.
    """
    if n_prefixes == 1:
        return (d_sae,)
    edges = torch.arange(1, d_sae + 1, dtype=torch.float64) ** -exponent
    drawn = torch.multinomial(edges[:-1] - edges[1:], n_prefixes - 1, generator=generator) + 1
    return (*sorted(drawn.tolist()), d_sae)


def prefixes_of_step(config: SAEConfig, n_updates: Callable[[], int]) -> tuple[int, ...]:
    """Prefixes that each reconstruct the output in the step after `n_updates` others, asked for where they matter."""
    if not config.nested or config.prefix_sampling == "fixed":
        return config.prefix_widths()
    # Seeded by the step, so that a resumed run draws what the unbroken one would have drawn.
    generator = torch.Generator().manual_seed(config.prefix_seed * 1_000_003 + n_updates())
    return draw_prefixes(config.d_sae, config.nested_prefixes(), config.pareto_exponent, generator)
