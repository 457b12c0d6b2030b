"""Concept sets from a treebank: part of speech, number of nouns, tense of finite verbs, at the word's last token.

What is held out is held out twice: test words stand in sentences of another file, and their lemmas are not among those
of training, since most of what is asked follows the lemma.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from interp.errors import DataError
from probes.concepts import Example, ExampleSet, Side, side_of
from probes.conllu import Sentence, Word, read_conllu

OTHER = "other"
PARTS = {"NOUN": "noun", "VERB": "verb", "ADJ": "adjective", "ADV": "adverb", "PROPN": "proper noun"}
_NUMBERS = {"Sing": "singular", "Plur": "plural"}
_TENSES = {"Past": "past", "Pres": "present"}
_MOST_WORDS = 30
_FEWEST_WORDS = 4
_LEAST = 4

Labeller = Callable[[Word], str | None]


def part_of_speech(word: Word) -> str | None:
    """An open class by name, any other as OTHER; None for what is no word."""
    return None if word.upos in ("PUNCT", "SYM", "X") else PARTS.get(word.upos, OTHER)


def noun_number(word: Word) -> str | None:
    """singular or plural."""
    return _NUMBERS.get(word.features.get("Number", "")) if word.upos == "NOUN" else None


def verb_tense(word: Word) -> str | None:
    """past or present, of finite verbs."""
    finite = word.upos == "VERB" and word.features.get("VerbForm") == "Fin"
    return _TENSES.get(word.features.get("Tense", "")) if finite else None


LABELLERS: Mapping[str, Labeller] = {
    "part of speech": part_of_speech,
    "noun number": noun_number,
    "verb tense": verb_tense,
}


def treebank_concepts(folder: Path, *, per_class: int, seed: int = 0) -> list[ExampleSet]:
    """One set for each of LABELLERS; of each class at most `per_class` words to train on and half as many to test on.

    Training words are of the folder's *train*.conllu, test words of its *dev*.conllu (or *test*.conllu).

    Raises: DataError if one of the files is missing, or too few words of a class are left.
    """
    sentences: dict[Side, list[Sentence]] = {
        "train": _usable(_file(folder, "train")),
        "test": _usable(_file(folder, "dev", "test")),
    }
    return [_example_set(name, label, sentences, per_class, seed) for name, label in LABELLERS.items()]


def _file(folder: Path, *parts: str) -> Path:
    for part in parts:
        if found := sorted(folder.glob(f"*{part}*.conllu")):
            return found[0]
    raise DataError(f"{folder}: holds no *{'*.conllu or *'.join(parts)}*.conllu; give the folder of a treebank")


def _usable(path: Path) -> list[Sentence]:
    """Sentences of plain letters and usual length: every tokenizer finds every word of them."""
    return [
        one
        for one in read_conllu(path)
        if one.text.isascii() and _FEWEST_WORDS <= len(one.words) <= _MOST_WORDS and len(one.text) <= 8 * _MOST_WORDS
    ]


def _example_set(
    name: str, label: Labeller, sentences: Mapping[Side, Sequence[Sentence]], per_class: int, seed: int
) -> ExampleSet:
    most: dict[Side, int] = {"train": per_class, "test": max(_LEAST, per_class // 2)}
    drawn = [_drawn(list(_examples(name, label, sentences[side], side)), most[side], seed) for side in most]
    classes = tuple(sorted({one for side in drawn for one in side}))
    short = [one for one in classes if min(len(side.get(one, ())) for side in drawn) < _LEAST]
    if short or len(classes) < 2:
        raise DataError(f"{name}: too few words ({', '.join(short) or 'one class at most'}); give a larger treebank")
    found = tuple(example for side in drawn for one in classes for example in side[one])
    return ExampleSet(kind="examples", name="UD", attributes={name: classes}, examples=found)


def _drawn(examples: Sequence[Example], most: int, seed: int) -> dict[str, list[Example]]:
    """At most so many of each class."""
    by_class: dict[str, list[Example]] = {}
    for example in examples:
        by_class.setdefault(next(iter(example.labels.values())), []).append(example)
    return {one: random.Random(f"{seed}:{one}").sample(held, min(most, len(held))) for one, held in by_class.items()}


def _examples(name: str, label: Labeller, sentences: Sequence[Sentence], side: Side) -> Iterator[Example]:
    for sentence in sentences:
        for word in sentence.words:
            answer, lemma = label(word), word.lemma.lower()
            if answer is not None and word.form.isalnum() and side_of(lemma) == side:
                place, labels = (word.start, word.end), {name: answer}
                yield Example(text=sentence.text, at=place, word=lemma, labels=labels, split=side)
