"""What a probe is asked: texts with labelled places, whatever the labels come from.

Labels come from treebanks and tables (`probes.label_files`), from rules on the text, the next token or another model
(`probes.label_rules`).
"""

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from interp.document_hash import split_share
from interp.errors import DataError
from probes.concepts import side_of


@dataclass(frozen=True, slots=True)
class Place:
    """Characters `start` to `end` (exclusive) of a text, the word that stands there, and its labels.

    word: what the split by word goes by: a lemma, or the characters themselves. labels: attribute -> class; what an
    attribute says nothing of has no entry.
    """

    start: int
    end: int
    word: str
    labels: Mapping[str, str]

    @property
    def word_is_held_out(self) -> bool:
        """Which side of the split by word it stands on, by the hash of the word."""
        return side_of(self.word) == "test"


@dataclass(frozen=True, slots=True)
class LabelledText:
    """A text that the model reads in one piece; several may belong to one document."""

    text: str
    document: str
    places: tuple[Place, ...]

    def is_held_out(self, share: float) -> bool:
        """Which side of the split by document it stands on, by the hash of the document."""
        return split_share(self.document) < share


def attributes_of(texts: Iterable[LabelledText]) -> tuple[str, ...]:
    """Every attribute that some place is labelled with, in order of appearance."""
    return tuple(dict.fromkeys(name for text in texts for place in text.places for name in place.labels))


def sampled(texts: Sequence[LabelledText], *, examples: int, seed: int = 0) -> list[LabelledText]:
    """At most `examples` places for each attribute, drawn by seed; texts and places without any left are dropped.

    Raises: DataError if no place is labelled.
    """
    found: dict[str, list[tuple[int, int]]] = {name: [] for name in attributes_of(texts)}
    for row, text in enumerate(texts):
        for index, place in enumerate(text.places):
            for name in place.labels:
                found[name].append((row, index))
    if not found:
        raise DataError("got texts without any label; give other texts, or another rule or attribute")
    kept = {
        name: set(random.Random(f"{seed}:{name}").sample(held, min(examples, len(held))))
        for name, held in found.items()
    }
    return [
        replace(text, places=places)
        for row, text in enumerate(texts)
        if (places := tuple(_with_labels_kept(text.places, row, kept)))
    ]


def _with_labels_kept(places: Sequence[Place], row: int, kept: Mapping[str, set[tuple[int, int]]]) -> Iterable[Place]:
    for index, place in enumerate(places):
        labels = {name: label for name, label in place.labels.items() if (row, index) in kept[name]}
        if labels:
            yield replace(place, labels=labels)


def most_common_classes(texts: Sequence[LabelledText], n: int) -> list[LabelledText]:
    """The same texts with the labels of each attribute's n commonest classes alone, ties by name."""
    counts: dict[str, Counter[str]] = {}
    for text in texts:
        for place in text.places:
            for name, label in place.labels.items():
                counts.setdefault(name, Counter())[label] += 1
    common = {
        name: {label for label, _ in sorted(found.items(), key=lambda item: (-item[1], item[0]))[:n]}
        for name, found in counts.items()
    }
    return [
        replace(text, places=tuple(place for place in (_only(p, common) for p in text.places) if place.labels))
        for text in texts
    ]


def _only(place: Place, common: Mapping[str, set[str]]) -> Place:
    return replace(place, labels={name: label for name, label in place.labels.items() if label in common[name]})
