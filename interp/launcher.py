"""What `torchrun` tells the processes that it starts, in their environment. Light: read before torch is imported."""

import os


def n_ranks() -> int:
    """How many processes were started together; one where it was not torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def own_rank() -> int:
    """The number of this one among them."""
    return int(os.environ["RANK"]) if n_ranks() > 1 else 0


def local_rank() -> int:
    """Its number on its machine, which is that of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0")) if n_ranks() > 1 else 0
