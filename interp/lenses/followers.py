"""What follows by counting alone: the bigram and trigram arms that a lens must beat.

Arrays: c tokens of the context, b examples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from interp.errors import DataError

N_BEST = 10


@dataclass(frozen=True, slots=True)
class _Table:
    """Tokens after each context, most frequent first: those of contexts[i] are tokens[starts[i] : starts[i + 1]]."""

    contexts: Int[ndarray, " m"]
    starts: Int[ndarray, " m_plus_1"]
    tokens: Int[ndarray, " e"]

    def after(self, context: int) -> Int[ndarray, " k"]:
        place = int(np.searchsorted(self.contexts, context))
        if place == len(self.contexts) or self.contexts[place] != context:
            return self.tokens[:0]
        return self.tokens[self.starts[place] : self.starts[place + 1]][:N_BEST]


class Followers:
    """Which tokens stand `gap` + 1 places after a context of `n_context` tokens most often; unseen ones back off.

    With gap 0 these are n-gram predictions; with more, the tokens between are summed over. Ties go to the lower id.
    Source of the backoff: Brants et al. 2007, "stupid backoff", of which the order alone is used.
    """

    def __init__(self, documents: Sequence[Sequence[int]], *, n_context: int, gap: int, vocab_size: int) -> None:
        """Raises: DataError if no document is long enough to count anything."""
        self.n_context, self.gap, self._vocab_size = n_context, gap, vocab_size
        tokens = np.concatenate([np.asarray(document, np.int64) for document in documents]) if documents else _NONE
        document = np.repeat(np.arange(len(documents)), [len(one) for one in documents])
        self._tables = [self._count(tokens, document, n) for n in range(n_context, -1, -1)]
        if not self._tables[-1].tokens.size:
            raise DataError("got no text to count what follows; give training documents")

    def _count(self, tokens: Int[ndarray, " t"], document: Int[ndarray, " t"], n: int) -> _Table:
        """A table of contexts of n tokens; with none, of all tokens."""
        reach = n + self.gap if n else 0
        last = len(tokens) - reach
        if last <= 0:
            return _Table(_NONE, np.zeros(1, np.int64), _NONE)
        whole = document[:last] == document[reach:]
        context = np.zeros(last, np.int64)
        for place in range(n):
            context = context * self._vocab_size + tokens[place : place + last]
        pairs = context[whole] * self._vocab_size + tokens[reach:][whole]
        found, counts = np.unique(pairs, return_counts=True)
        contexts, follows = found // self._vocab_size, found % self._vocab_size
        order = np.lexsort((follows, -counts, contexts))
        known, starts = np.unique(contexts, return_index=True)
        return _Table(known, np.append(starts, len(found)), follows[order])

    def top(self, contexts: Int[ndarray, "b c"]) -> Int[ndarray, "b k"]:
        """The ten likeliest tokens after each context, of which the last `n_context` tokens are read."""
        found = np.full((len(contexts), N_BEST), -1, np.int64)
        for row, context in enumerate(contexts.tolist()):
            best: list[int] = []
            for table, n in zip(self._tables, range(self.n_context, -1, -1), strict=True):
                key = 0
                for token in context[len(context) - n :]:
                    key = key * self._vocab_size + token
                best += [token for token in table.after(key).tolist() if token not in best]
                if len(best) >= N_BEST:
                    break
            found[row, : len(best[:N_BEST])] = best[:N_BEST]
        return found


_NONE = np.zeros(0, np.int64)
