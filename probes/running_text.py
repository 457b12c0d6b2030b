"""A hierarchy of words found in running text, token by token.

Axes: b rows, t position, n kept tokens.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from interp.datasets import TokenBatch
from probes.concepts import Hierarchy

OTHER, IGNORED = -1, -2
"""Labels of tokens that are no word of the hierarchy, and of those that count as nothing."""


class WordLabels:
    """Where words of a hierarchy end in rows of tokens.

    A word is labelled at its last token; its other tokens, and all tokens of ignored words, count as nothing. What only
    begins like a word, or ends like one, is none ("Timothy" is not "Tim").
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, hierarchy: Hierarchy) -> None:
        self.words = [word for members in hierarchy.children.values() for word in members]
        self.child = [child for child, members in hierarchy.children.items() for _ in members]
        self._pieces = _Pieces(tokenizer)
        self._starts: dict[int, list[tuple[tuple[int, ...], int, bool]]] = {}
        numbered = [*enumerate(self.words), *((IGNORED, word) for word in hierarchy.ignored)]
        for number, word in numbered:
            for ids, behind_blank in self._pieces.spellings(word):
                self._starts.setdefault(ids[0], []).append((ids, number, behind_blank))
        for held in self._starts.values():
            held.sort(key=lambda entry: -len(entry[0]))

    def of_batch(self, batch: TokenBatch) -> Int[Tensor, " n"]:
        """Label of every kept token: the number of a word, OTHER or IGNORED."""
        labels = torch.full(batch.token_ids.shape, OTHER, dtype=torch.int64)
        for row, ids in enumerate(batch.token_ids.tolist()):
            for start, stop, number in self._found(ids):
                labels[row, start : stop - 1] = IGNORED
                labels[row, stop - 1] = number
                if number == IGNORED:
                    labels[row, start:stop] = IGNORED
        return labels[batch.keep.cpu()]

    def _found(self, ids: Sequence[int]) -> Iterator[tuple[int, int, int]]:
        position = 0
        while position < len(ids):
            match = next(
                (entry for entry in self._starts.get(ids[position], ()) if self._stands(ids, position, entry)), None
            )
            if match is not None:
                yield position, position + len(match[0]), match[1]
            position += 1 if match is None else len(match[0])

    def _stands(self, ids: Sequence[int], start: int, entry: tuple[tuple[int, ...], int, bool]) -> bool:
        spelling, _, behind_blank = entry
        stop = start + len(spelling)
        if tuple(ids[start:stop]) != spelling:
            return False
        before = "" if behind_blank or start == 0 else self._pieces.text(ids[start - 1])
        after = "" if stop >= len(ids) else self._pieces.text(ids[stop])
        return not before[-1:].isalpha() and not after[:1].isalpha()


class _Pieces:
    """The text of single tokens, blanks included, whatever the tokenizer's own way to write them."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._texts: dict[int, str] = {}
        # Decoders drop a blank at the beginning of a text: behind something it stays.
        self._anchor: int = self.ids("a")[-1]
        self._anchor_text = str(tokenizer.decode([self._anchor]))

    def ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def text(self, token: int) -> str:
        if token not in self._texts:
            both = self._tokenizer.decode([self._anchor, token], clean_up_tokenization_spaces=False)
            self._texts[token] = str(both).removeprefix(self._anchor_text)
        return self._texts[token]

    def spellings(self, word: str) -> Iterator[tuple[tuple[int, ...], bool]]:
        """Ways in which a word is written in tokens, and whether a blank before it is part of the first one."""
        seen = set()
        for before in (" ", "\n", '"', ""):
            lead = f"a{before}" if before else ""
            ids = self.ids(lead + word)
            for start in range(len(ids)):
                text = "".join(self.text(token) for token in ids[start:])
                if text.strip() == word and text[:1] != "\n" and tuple(ids[start:]) not in seen:
                    seen.add(tuple(ids[start:]))
                    yield tuple(ids[start:]), text != word
                    break
