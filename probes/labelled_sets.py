"""Labelled places of any file (treebank, CSV, JSONL) as one set of examples with several kinds of labels."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from interp.errors import DataError
from probes.concepts import Example, ExampleSet
from probes.label_files import CONLLU_ATTRIBUTES, labels_from_conllu, labels_from_records
from probes.probe_labels import LabelledText, Place

Clusters = Literal["word", "document"]
LEAST_PER_CLASS = 10
"""Examples of a class under which it is left out: fewer say nothing on either side of a split."""


def labelled_set(
    path: Path,
    attributes: Sequence[str],
    *,
    examples: int,
    clusters: Clusters = "word",
    fits: Callable[[str], bool] = bool,
    seed: int = 0,
) -> ExampleSet:
    """At most `examples` places that have all the attributes, drawn by seed, from texts that the model can read.

    Attributes of a treebank: those of CONLLU_ATTRIBUTES; of other files, the fields that hold labels. Splits and
    intervals go by `clusters`.

    Raises: DataError for a malformed file or an unknown attribute, or if too few places or classes are left.
    """
    if not attributes:
        known = ", ".join(CONLLU_ATTRIBUTES)
        raise DataError(f"{path}: got no attributes; expected some of {known}, or the fields that hold labels")
    treebank = path.suffix == ".conllu" or path.is_dir()
    names = tuple(attributes)
    texts = labels_from_conllu(path, names) if treebank else labels_from_records(path, label_fields=names)
    found = [
        _example(text, place, clusters)
        for text in texts
        if fits(text.text)
        for place in text.places
        if set(names) <= place.labels.keys()
    ]
    drawn = _of_common_classes(random.Random(seed).sample(found, min(examples, len(found))), names)
    classes = {name: tuple(sorted({one.labels[name] for one in drawn})) for name in names}
    if poor := next((name for name, held in classes.items() if len(held) < 2), None):
        raise DataError(
            f"{path}: of {len(found)} places with {', '.join(names)}, {poor} has fewer than two classes of "
            f"{LEAST_PER_CLASS}; give more text, or other attributes"
        )
    return ExampleSet(kind="examples", name=path.stem, attributes=classes, examples=tuple(drawn))


def _example(text: LabelledText, place: Place, clusters: Clusters) -> Example:
    word = place.word if clusters == "word" else text.document
    return Example(text=text.text, at=(place.start, place.end), word=word, labels=dict(place.labels))


def _of_common_classes(examples: Sequence[Example], names: Sequence[str]) -> list[Example]:
    """Without rare classes, until none is left: what goes with one class may have been another's."""
    held = list(examples)
    while True:
        counts = Counter((name, one.labels[name]) for one in held for name in names)
        kept = [one for one in held if all(counts[name, one.labels[name]] >= LEAST_PER_CLASS for name in names)]
        if len(kept) == len(held):
            return kept
        held = kept
