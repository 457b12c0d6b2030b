"""Prompt pairs that need no file: a name, and the pronoun that a story goes on with."""

from typing import Any

from interp.errors import DataError
from interp.models import Model
from interp.pair_files import SplitPairs, split_pairs

_HE = ("Tom", "Jack", "Ben", "Bob", "Joe", "Leo", "John", "Jim", "Pete", "Peter", "Dave", "Jake")
_SHE = ("Lily", "Mia", "Anna", "Emma", "Sue", "Lucy", "Amy", "Sara", "Jane", "Molly", "Tina", "Ella")
_TEMPLATES = {
    "train": (
        "Once upon a time there was a child named {}. One day,",
        "The teacher asked {} to sing. But",
        "In the morning {} was happy because",
    ),
    "heldout": (
        "One day {} went to the park. There",
        "It was a sunny day and {} felt good. Suddenly,",
        "When the rain stopped, {} smiled because",
    ),
}


def pronoun_pairs(model: Model) -> SplitPairs:
    """He against she after a name, the name exchanged in the corrupt prompt; other names and other templates held out.

    Names that are several tokens of the model are left out, so that both prompts have equally many.

    Raises: DataError if fewer than four names of each kind are one token.
    """
    he, she = ([name for name in names if _is_one_token(model, f" {name}")] for names in (_HE, _SHE))
    n = min(len(he), len(she))
    if n < 4:
        raise DataError(f"got {n} pairs of names that are one token each in {model.name}; give --prompts of your own")
    lines: list[dict[str, Any]] = []
    for number, names in enumerate(zip(he, she, strict=False)):
        split = "train" if number % 2 == 0 else "heldout"
        for template in _TEMPLATES[split]:
            for own, other, answer, foil in ((0, 1, " he", " she"), (1, 0, " she", " he")):
                lines.append(
                    {
                        "clean": template.format(names[own]),
                        "corrupt": template.format(names[other]),
                        "answer": answer,
                        "foil": foil,
                        "cluster": "/".join(names),
                        "split": split,
                    }
                )
    return split_pairs(lines, model, source="name and pronoun")


def _is_one_token(model: Model, text: str) -> bool:
    ids = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    return len(ids) == 1 and ids[0] != model.tokenizer.unk_token_id
