"""Harvesting by many ranks: each runs the model on its share of the batches, and all get everything in the same order.

What comes out is the stream of one process, byte for byte, on any number of ranks; so are its cursors.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from torch import Tensor

from interp.activations.harvest import (
    PLAIN,
    ActivationSource,
    Cursor,
    Harvest,
    HarvestConfig,
    TokenReader,
    harvest_batch,
    reader_of,
)
from interp.code import ActivationBatch
from interp.datasets import TokenBatch, TokenStream
from interp.distributed import Ranks
from interp.models import Model


def open_harvest(
    model: Model, stream: TokenStream, hooks: Sequence[str], ranks: Ranks, how: HarvestConfig = PLAIN
) -> ActivationSource:
    """Activations of a model over a stream, by this process alone or by all ranks together.

    Raises: UnknownHookError if the model lacks a hook; ConfigError if it cannot be compiled.
    """
    return Harvest(model, stream, hooks, how) if ranks.n == 1 else SpreadHarvest(model, stream, hooks, ranks, how)


class SpreadHarvest:
    """As Harvest, the forward passes taken in turns: of every n batches rank r runs the r-th."""

    def __init__(
        self,
        model: Model,
        stream: TokenStream,
        hooks: Sequence[str],
        ranks: Ranks,
        how: HarvestConfig = PLAIN,
    ) -> None:
        """Raises: UnknownHookError if the model lacks a hook; ConfigError if it cannot be compiled."""
        self.widths = {name: model.hook(name).width for name in hooks}
        # Tokens alone are made ahead: what ranks tell each other, all of them ask for in one order.
        self._model, self._ranks, self._tokens = model, ranks, TokenReader(stream, model, how)
        self._read = reader_of(model, hooks, how)

    @property
    def seconds(self) -> Mapping[str, float]:
        return self._tokens.seconds

    def iter_from(self, cursor: Mapping[str, int]) -> Iterator[tuple[Cursor, ActivationBatch]]:
        """Chunks of kept tokens; all ranks must ask for as many.

        Raises: NonFiniteError where the model ran, if it gives NaN or infinity; RankLostError at the other ranks.
        """
        batches = self._tokens.iter_from(cursor)
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
        mine = turn[self._ranks.rank]
        own = harvest_batch(self._model, mine, tuple(self.widths), read=self._read).acts
        acts = {}
        for hook, x in own.items():
            padded = x.new_zeros(most, x.shape[1])
            padded[: x.shape[0]] = x
            acts[hook] = self._ranks.gather(padded)
        return acts
