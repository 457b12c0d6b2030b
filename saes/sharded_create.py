"""A dictionary taken apart: what can be, and each rank's part of it, as yet without weights."""

from typing import Any

from interp.distributed import Ranks
from interp.errors import ConfigError
from saes.architectures import create_sae
from saes.codebook import CosineCodebook
from saes.config import ARCHITECTURE_NAMES, CODEBOOK, SAEConfig
from saes.sharded import ShardedSAE
from saes.sharded_codebook import ShardedCodebook


def create_sharded(config: SAEConfig, d_in: int, ranks: Ranks, **where: Any) -> ShardedSAE:
    """This rank's part, all weights zero; `where` is what `create_sae` takes.

    Raises: ConfigError if the dictionary cannot be spread, or a rank would have fewer features than are active.
    """
    check_spreads(config, ranks)
    begin, end = ranks.span(config.d_sae)
    # A part has no prefixes of its own.
    part = config.model_copy(update={"d_sae": end - begin, "prefixes": (), "n_prefixes": None})
    own = create_sae(part, d_in, **where)
    return ShardedCodebook(own, config, ranks) if isinstance(own, CosineCodebook) else ShardedSAE(own, config, ranks)


def check_spreads(config: SAEConfig, ranks: Ranks) -> None:
    """Raises: ConfigError if a dictionary cannot be spread over as many ranks."""
    if config.architecture == CODEBOOK and config.codebook_variant == "latent":
        raise ConfigError(
            f"sae.codebook_variant: got latent on {ranks.n} ranks; expected plain, grouped or residual; choose one, or "
            "train in one process"
        )
    counted = config.architecture in ARCHITECTURE_NAMES and not config.penalised
    least = config.k if counted else 1
    if config.d_sae // ranks.n < least:
        raise ConfigError(
            f"sae.d_sae: got {config.d_sae:,} features on {ranks.n} ranks; each needs at least "
            f"{f'k = {config.k}' if counted else 'one'}; start fewer ranks"
        )
