"""Concept sets of what children's stories are about, made from lists of words and slots to put them into.

Nothing is drawn at random but the split: held-out examples hold words *and* slots that training examples do not.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from transformers import PreTrainedTokenizerBase

import interp
from interp.errors import DataError
from probes.concepts import Concept, ConceptSets, EntitySet, Example, ExampleSet, Hierarchy, Side, side_of

WORDS = Path(interp.__file__).parent / "assets" / "concepts" / "words.yaml"
LEAST_WORDS = 20
MOST_TOKENS = 8
_LEAST_PER_LETTER = 16
SPEECH = ("narration", "quotation")

Labels = Mapping[str, str]


def bundled_concepts(tokenizer: PreTrainedTokenizerBase, *, seed: int = 0) -> ConceptSets:
    """Names and gender, number, animacy, tense, speech, topic, first letter; a hierarchy of names; two entity sets.

    Words that a tokenizer cuts into many pieces, or joins with what stands around them, are left out: of each class as
    few pieces are allowed as leave at least LEAST_WORDS.

    Raises: DataError if too few words of a class are left.
    """
    with WORDS.open(encoding="utf-8") as file:
        lists = yaml.safe_load(file)
    check = _Words(tokenizer, seed)
    nouns = _nouns(lists, check)
    names = check.labelled("gender", {gender: text.split() for gender, text in lists["names"].items()})
    verbs = _pairs(lists["verbs"].split(), ("past", "present"), "tense", check)
    topics = check.labelled("topic", {topic: text.split() for topic, text in lists["topics"].items()})
    slots = lists["slots"]
    concepts: list[Concept] = [
        _examples("names", names, slots["names"], seed),
        _examples("nouns", nouns, slots["nouns"], seed),
        _examples("verbs", verbs, slots["verbs"], seed),
        _examples("topics", topics, slots["topics"], seed),
        *_first_letters([*nouns, *verbs, *topics], slots["topics"], seed),
        names_hierarchy(),
        *_entities(lists, names, nouns, seed),
    ]
    return ConceptSets(concepts=tuple(concepts))


def names_hierarchy() -> Hierarchy:
    """Persons' names under their gender, whatever the tokenizer makes of them."""
    with WORDS.open(encoding="utf-8") as file:
        lists = yaml.safe_load(file)
    children = {gender: tuple(text.split()) for gender, text in lists["names"].items()}
    ignored = tuple(lists["names_ignored"].split())
    return Hierarchy(kind="hierarchy", name="names", parent="person's name", children=children, ignored=ignored)


class _Words:
    """Which words a tokenizer leaves whole enough."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, seed: int) -> None:
        self._tokenizer, self.seed = tokenizer, seed

    def n_tokens(self, word: str) -> int:
        """Pieces of the word behind a blank; more than any limit where its edges are not edges of pieces."""
        text = f"the {word} and"
        pieces = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        inside = [(start, end) for start, end in pieces if start < 4 + len(word) and end > 4 and end > start]
        whole = inside[0][0] in (3, 4) and inside[-1][1] == 4 + len(word)
        return len(inside) if whole else MOST_TOKENS + 1

    def usable(self, words: Sequence[str], what: str) -> list[str]:
        """The words of a class that may be used."""
        sizes = {word: self.n_tokens(word) for word in words}
        for most in range(1, MOST_TOKENS + 1):
            kept = [word for word in words if sizes[word] <= most]
            if len(kept) >= LEAST_WORDS:
                return kept
        raise DataError(
            f"{what}: {len(kept)} of {len(words)} words have at most {MOST_TOKENS} tokens in this tokenizer; expected "
            f"{LEAST_WORDS}; give concepts of your own"
        )

    def labelled(self, attribute: str, classes: Mapping[str, Sequence[str]]) -> list["_Word"]:
        """The usable words of each class."""
        return [(word, word, {attribute: name}) for name, words in classes.items() for word in self.usable(words, name)]


_Word = tuple[str, str, Labels]
"""A form, the word that it is a form of, its labels."""


def _pairs(pairs: Sequence[str], classes: tuple[str, str], attribute: str, check: _Words) -> list[_Word]:
    """Both forms of each word, of those words of which both may be used."""
    forms = dict(pair.split("/") for pair in pairs)
    first, second = (set(check.usable(list(words), attribute)) for words in (forms.keys(), forms.values()))
    return [
        (form, one, {attribute: name})
        for one, other in forms.items()
        if one in first and other in second
        for form, name in zip((one, other), classes, strict=True)
    ]


def _nouns(lists: Mapping[str, Any], check: _Words) -> list[_Word]:
    return [
        (form, word, {**labels, "animacy": animacy})
        for animacy, text in lists["nouns"].items()
        for form, word, labels in _pairs(text.split(), ("singular", "plural"), "number", check)
    ]


def _examples(name: str, words: Sequence[_Word], slots: Mapping[str, Sequence[str]], seed: int) -> ExampleSet:
    """Every word in every slot of its side of the split."""
    made = [
        _example(slot, form, word, {**labels, **({"speech": speech} if len(slots) > 1 else {})}, side)
        for speech, texts in slots.items()
        for slot, side in _sided(texts)
        for form, word, labels in words
        if side_of(word, seed=seed) == side
    ]
    classes = {attribute: tuple(dict.fromkeys(e.labels[attribute] for e in made)) for attribute in made[0].labels}
    return ExampleSet(kind="examples", name=name, attributes=classes, examples=tuple(made))


def _sided(slots: Sequence[str]) -> Iterator[tuple[str, Side]]:
    """The first half of the slots trains, the second half is held out."""
    for index, slot in enumerate(slots):
        yield slot, "train" if index < (len(slots) + 1) // 2 else "test"


def _example(slot: str, form: str, word: str, labels: Labels, side: Side) -> Example:
    before = slot.index("{w}")
    text = slot.replace("{w}", form)
    at = (before, before + len(form))
    return Example(text=text, at=at, word=word, template=slot, labels=dict(labels), split=side)


def _first_letters(words: Sequence[_Word], slots: Mapping[str, Sequence[str]], seed: int) -> list[ExampleSet]:
    """The words of all lists by their first letter, for letters that enough of them begin with; none for one letter."""
    forms = {form: word for form, word, _ in words}
    by_letter: dict[str, list[_Word]] = {}
    for form, word in sorted(forms.items()):
        by_letter.setdefault(form[0], []).append((form, word, {"letter": form[0]}))
    kept = [held for held in by_letter.values() if len(held) >= _LEAST_PER_LETTER]
    return [_examples("first letter", [entry for held in kept for entry in held], slots, seed)] if len(kept) > 1 else []


def _entities(
    lists: Mapping[str, Any], names: Sequence[_Word], nouns: Sequence[_Word], seed: int
) -> Iterator[EntitySet]:
    """Names and nouns with their attributes, in the sentences of the list."""
    held = {"people": names, "nouns": nouns}
    for name, words in held.items():
        entities = {form: {**labels, **({"name": form} if name == "people" else {})} for form, _, labels in words}
        answers = {key.split(".")[1]: texts for key, texts in lists["answers"].items() if key.startswith(f"{name}.")}
        if name == "people":
            answers["name"] = {form: f" {form}" for form in entities}
        yield EntitySet.parse(
            {
                "kind": "entities",
                "name": name,
                "entities": entities,
                "templates": lists["entities"][name],
                "answers": answers,
                "split": {form: side_of(word, seed=seed) for form, word, _ in words},
            }
        )
