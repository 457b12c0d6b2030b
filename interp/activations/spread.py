"""Harvesting by many ranks: each runs the model on its share of the batches, and all get everything in the same order.

What comes out is the stream of one process, byte for byte, on any number of ranks; so are its cursors.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from torch import Tensor

from interp.activations.harvest import ActivationSource, Cursor, Harvest, harvest_batch
from interp.code import ActivationBatch
from interp.datasets import TokenBatch, TokenStream
from interp.distributed import Ranks
from interp.models import Model


def open_harvest(model: Model, stream: TokenStream, hooks: Sequence[str], ranks: Ranks) -> ActivationSource:
    """Activations of a model over a stream, by this process alone or by all ranks together.

    Raises: UnknownHookError if the model lacks a hook.
    """
    return Harvest(model, stream, hooks) if ranks.n == 1 else SpreadHarvest(model, stream, hooks, ranks)


class SpreadHarvest:
    """As Harvest, the forward passes taken in turns: of every n batches rank r runs the r-th."""

    def __init__(self, model: Model, stream: TokenStream, hooks: Sequence[str], ranks: Ranks) -> None:
        """Raises: UnknownHookError if the model lacks a hook."""
        self._model, self._stream, self._ranks = model, stream, ranks
        self.widths = {name: model.hook(name).width for name in hooks}

    def iter_from(self, cursor: Mapping[str, int]) -> Iterator[tuple[Cursor, ActivationBatch]]:
        """Chunks of kept tokens; all ranks must ask for as many.

        Raises: NonFiniteError where the model ran, if it gives NaN or infinity; RankLostError at the other ranks.
        """
        batches = ((here, batch) for here, batch in self._stream.iter_from(cursor) if batch.n_kept)
        # A stream goes on for ever: every turn is full.
        while turn := list(islice(batches, self._ranks.n)):
            acts = self._exchanged([batch for _, batch in turn])
            for index, (here, batch) in enumerate(turn):
                moved = batch.to(self._model.device)
                keep = moved.keep
                mine = {hook: x[index, : batch.n_kept] for hook, x in acts.items()}
                yield here, ActivationBatch(mine, moved.token_ids[keep], moved.document[keep], moved.position_ids[keep])

    def _exchanged(self, turn: Sequence[TokenBatch]) -> dict[str, Tensor]:
        """Each hook's activations of all batches, padded to the longest: (n, tokens, d)."""
        most = max(batch.n_kept for batch in turn)
        own = harvest_batch(self._model, turn[self._ranks.rank], tuple(self.widths)).acts
        acts = {}
        for hook, x in own.items():
            padded = x.new_zeros(most, x.shape[1])
            padded[: x.shape[0]] = x
            acts[hook] = self._ranks.gather(padded)
        return acts
