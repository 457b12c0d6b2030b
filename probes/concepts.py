"""Concept sets: which texts carry which concept, at which token.

A file of concepts holds records of three kinds (see `probes.concept_files` for how they are read):

- `examples`: texts, each labelled at one place by one or several attributes:
  {"kind": "examples", "name": "verbs", "attributes": {"tense": ["past", "present"]}, "examples": [{"text": "She ran",
  "at": [4, 7], "word": "run", "labels": {"tense": "past"}, "split": "train"}]}
- `hierarchy`: words of a parent class under its children, to label running text:
  {"kind": "hierarchy", "name": "names", "parent": "person's name", "children": {"female": ["Lily"], "male": ["Tim"]}}
- `entities`: things with attributes and sentences to put them into, for interchange (RAVEL):
  {"kind": "entities", "name": "people", "entities": {"Lily": {"gender": "female"}, "Tim": {"gender": "male"}},
  "templates": {"gender": ["%s was happy because"]}, "answers": {"gender": {"female": " she", "male": " he"}}}
"""

import hashlib
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from interp.config import Config

Side = Literal["train", "test"]
HELDOUT_SHARE = 0.35


def side_of(word: str, *, seed: int = 0) -> Side:
    """Which side of the split a word stands on, by its hash alone."""
    digest = hashlib.blake2b(f"{seed}:{word}".encode(), digest_size=6).digest()
    return "test" if int.from_bytes(digest, "big") / 2**48 < HELDOUT_SHARE else "train"


class Example(Config):
    """A text with a labelled place."""

    text: str = Field(min_length=1)
    """What the model reads."""
    at: tuple[int, int] | None = None
    """First and last character (exclusive) of what carries the labels, of which the last token counts; unset: the
    end of the text."""
    word: str | None = None
    """What intervals resample and the split goes by (a lemma, say); unset: the characters at `at`, or the text."""
    template: str = ""
    """The sentence without its word, where there is one."""
    labels: Mapping[str, str]
    """Attribute -> class."""
    split: Side | None = None
    """train or test; unset: by the hash of the word."""

    @model_validator(mode="after")
    def _place_is_inside(self) -> "Example":
        if self.at is not None and not 0 <= self.at[0] < self.at[1] <= len(self.text):
            raise ValueError(
                f"at: got {list(self.at)}; expected a place within the {len(self.text)} characters of text"
            )
        return self

    @property
    def place(self) -> tuple[int, int]:
        """Where the labels stand."""
        return (len(self.text) - 1, len(self.text)) if self.at is None else self.at

    @property
    def unit(self) -> str:
        """The word that is resampled and split by."""
        return self.word or (self.text if self.at is None else self.text[slice(*self.at)])

    @property
    def side(self) -> Side:
        """train or test."""
        return self.split or side_of(self.unit)


class ExampleSet(Config):
    """Texts labelled by attributes."""

    kind: Literal["examples"]
    """examples."""
    name: str
    """What the set is called in tables."""
    attributes: Mapping[str, tuple[str, ...]]
    """Attribute -> its classes."""
    examples: tuple[Example, ...] = Field(min_length=4)
    """The texts."""

    @model_validator(mode="after")
    def _labels_are_known(self) -> "ExampleSet":
        for attribute, classes in self.attributes.items():
            if len(set(classes)) < 2:
                raise ValueError(f"attributes: {attribute} has {len(set(classes))} classes; give at least two")
            if absent := [name for name in classes if not any(e.labels.get(attribute) == name for e in self.examples)]:
                raise ValueError(f"attributes: no example of {attribute} {absent[0]!r}; add some or drop the class")
        for index, example in enumerate(self.examples):
            for attribute, classes in self.attributes.items():
                if (got := example.labels.get(attribute)) not in classes:
                    raise ValueError(
                        f"examples.{index}.labels: got {attribute} {got!r}; expected one of {', '.join(classes)}"
                    )
        return self


class Hierarchy(Config):
    """A parent class whose members are words, under the children that they belong to."""

    kind: Literal["hierarchy"]
    """hierarchy."""
    name: str
    """What the hierarchy is called."""
    parent: str
    """What all the words are."""
    children: Mapping[str, tuple[str, ...]] = Field(min_length=1)
    """Child class -> its words, as they are spelt in text."""
    ignored: tuple[str, ...] = ()
    """Words that are now and then of the class: neither counted as it nor as anything else."""

    @model_validator(mode="after")
    def _words_are_apart(self) -> "Hierarchy":
        words = [word for members in self.children.values() for word in members]
        if twice := next((word for word in words if words.count(word) > 1), None):
            raise ValueError(f"children: {twice!r} stands there twice; put each word under one child")
        if not words:
            raise ValueError("children: got no word; give at least one")
        return self

    def child_of(self) -> dict[str, str]:
        """Word -> child class."""
        return {word: child for child, members in self.children.items() for word in members}


class EntitySet(Config):
    """Things with attributes, and sentences to put them into."""

    kind: Literal["entities"]
    """entities."""
    name: str
    """What the set is called."""
    entities: Mapping[str, Mapping[str, str]] = Field(min_length=4)
    """Entity -> attribute -> value."""
    templates: Mapping[str, tuple[str, ...]]
    """Attribute -> sentences with one %s for the entity; what follows asks for the attribute."""
    answers: Mapping[str, Mapping[str, str]] = {}
    """Attribute -> value -> how the model would go on; attributes without are read by a probe."""
    split: Mapping[str, Side] = {}
    """Entity -> train or test; unset: by the hash of the entity."""

    @model_validator(mode="after")
    def _fits_together(self) -> "EntitySet":
        for attribute, templates in self.templates.items():
            if bad := next((text for text in templates if text.count("%s") != 1), None):
                raise ValueError(f"templates.{attribute}: got {bad[:60]!r}; expected one %s in each")
        for entity, values in self.entities.items():
            if missing := [attribute for attribute in self.templates if attribute not in values]:
                raise ValueError(f"entities.{entity}: has no {missing[0]}; give a value or drop its templates")
        for attribute, answers in self.answers.items():
            known = {held[attribute] for held in self.entities.values() if attribute in held}
            if unanswered := known - set(answers):
                raise ValueError(f"answers.{attribute}: none for {min(unanswered)!r}; give how the text would go on")
        return self

    def side(self, entity: str) -> Side:
        """train or test."""
        return self.split.get(entity) or side_of(entity)


Concept = Annotated[ExampleSet | Hierarchy | EntitySet, Field(discriminator="kind")]


class ConceptSets(Config):
    """All concepts of a file, or the bundled ones."""

    concepts: tuple[Concept, ...] = Field(min_length=1)
    """The records."""

    @model_validator(mode="after")
    def _names_differ(self) -> "ConceptSets":
        names = [(concept.kind, concept.name) for concept in self.concepts]
        if twice := next((name for kind, name in names if names.count((kind, name)) > 1), None):
            raise ValueError(f"concepts: {twice!r} stands there twice; give each set a name of its own")
        return self

    @property
    def examples(self) -> tuple[ExampleSet, ...]:
        return tuple(concept for concept in self.concepts if isinstance(concept, ExampleSet))

    @property
    def hierarchies(self) -> tuple[Hierarchy, ...]:
        return tuple(concept for concept in self.concepts if isinstance(concept, Hierarchy))

    @property
    def entities(self) -> tuple[EntitySet, ...]:
        return tuple(concept for concept in self.concepts if isinstance(concept, EntitySet))
