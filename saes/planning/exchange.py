"""What ranks that train one SAE tell each other, counted: bytes that each of them receives.

An exchange in which everyone gets what each has brings a rank n - 1 parts; adding up S bytes brings it 2 S (n - 1) / n,
as rings do it.
Axes: b tokens of a step, d width of the input, o width of the output, k active features, g prefixes, n ranks.
"""

from collections.abc import Mapping

from saes.config import CODEBOOK, PENALISED
from saes.planning.counts import Counts

FLOAT, INDEX = 4, 8


def step_exchange(counts: Counts, n_ranks: int) -> dict[str, float]:
    """Bytes received by each rank per step, part by part. Where a count is k per batch, ties are told too.

    The dead-feature loss is not in it: see `aux_exchange`.
    """
    config, n = counts.config, n_ranks
    b, o, g = config.batch_size, counts.d_out, counts.n_prefixes
    harvested = counts.harvested_tokens / config.n_steps
    of_disk = config.activations is not None
    selected = {**dict.fromkeys(("topk", CODEBOOK), FLOAT * config.sae.k * b), **dict.fromkeys(PENALISED, 0)}
    candidates = selected.get(config.sae.architecture, FLOAT * config.sae.k * b + INDEX * b)
    return {
        "activations": 0.0 if of_disk else harvested * counts.read_width * counts.act_bytes * (n - 1) / n,
        "candidates": float(candidates * (n - 1)),
        "reconstructions": 2 * FLOAT * b * o * (n - 1) / n * _n_sums(counts, g),
        "gradient of b_dec, norms, counts": 2 * (FLOAT * o + 9 * INDEX) * (n - 1) / n,
    }


def aux_exchange(counts: Counts, n_ranks: int) -> float:
    """Bytes received by each rank in a step in which more features are dead than revive a token."""
    config, n = counts.config, n_ranks
    k_aux = config.sae.k_aux or max(1, counts.d_out // 2)
    return FLOAT * config.batch_size * (k_aux * (n - 1) + 2 * counts.d_out * (n - 1) / n)


def checkpoint_exchange(counts: Counts, n_ranks: int) -> float:
    """Bytes that rank 0 receives for a checkpoint."""
    return counts.checkpoint_bytes * (n_ranks - 1) / n_ranks


def n_exchanges(counts: Counts) -> int:
    """How often ranks wait for each other in a step."""
    more: Mapping[str, int] = dict.fromkeys(("topk", *PENALISED), 1)
    if counts.config.sae.architecture == CODEBOOK:
        more = {CODEBOOK: counts.config.sae.n_parts}
    # Activations, sums, counts, dead features, gradient of b_dec, norm; for k per token candidates, for a penalty its
    # sum, for k per batch values, ties, threshold.
    return 5 + _n_sums(counts, 1) + more.get(counts.config.sae.architecture, 3)


def _n_sums(counts: Counts, n_prefixes: int) -> int:
    """Sums of features' parts, for each prefix: of a gate's too; of a codebook's stages each but the last."""
    sae = counts.config.sae
    if sae.architecture == CODEBOOK and sae.codebook_variant == "residual":
        return n_prefixes + sae.n_stages - 1
    return 2 * n_prefixes if sae.architecture == "gated" else n_prefixes
