"""Names, and sentences after which a story goes on with the pronoun of the name.

Axes: p prompts.
"""

import random
import re
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from interp.documents import open_documents
from interp.errors import DataError
from interp.models import Model
from interp.prompts import Prompts, prompts_of
from probes.concept_generator import names_hierarchy

TRAIN_TEMPLATES = ("{n} was happy because", "{n} went home because", "{n} liked to play. One day,")
TEST_TEMPLATES = ("One day, {n} was tired because", "When {n} came home,", "{n} was very hungry, so")
NAME = "name"
GENDERS = ("female", "male")
_LEAST = 4
_DOCUMENTS = 3000
_WORD_SHARE = 20
"""A name is written small at most once for so many times that it is capitalised."""


@dataclass(frozen=True, slots=True)
class NamedPrompts:
    """Prompts of "he" held against "she"; `sign` is +1 where the name is male. A name is a cluster.

    Shapes: sign (p,).
    """

    prompts: Prompts
    sign: Float[ndarray, " p"]


def split_names(
    lists: Mapping[str, Sequence[str]], dataset: str, *, least: int, n: int, seed: int
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Names that occur often enough in the text, as many of each gender, dealt out at random to training and testing.

    Left out are names of both genders, names that the text also has as words (Bear, See), and those of pets and toys.

    Raises: DataError if fewer than four of a gender are left.
    """
    unclear = set(lists["female"]) & set(lists["male"]) | set(names_hierarchy().ignored)
    texts = (str(text) for _, text in islice(open_documents(dataset).iter_from(), _DOCUMENTS))
    counts = Counter(word for text in texts for word in re.findall(r"[A-Za-z][a-z]+", text))

    def known(name: str) -> bool:
        return counts[name] >= least and _WORD_SHARE * counts[name.lower()] <= counts[name]

    kept = {g: sorted(filter(known, set(lists[g]) - unclear)) for g in GENDERS}
    size = min(2 * n, *(len(names) for names in kept.values())) // 2
    if size < _LEAST:
        found = ", ".join(f"{len(names)} {gender}" for gender, names in kept.items())
        raise DataError(
            f"{dataset}: got {found} names that occur {least} times or more; expected {2 * _LEAST} of each; give more "
            "text, other names or a smaller --least"
        )
    draw = random.Random(seed)
    dealt = {gender: draw.sample(names, 2 * size) for gender, names in kept.items()}
    return {g: names[:size] for g, names in dealt.items()}, {g: names[size:] for g, names in dealt.items()}


def load_names(path: Path | None) -> dict[str, list[str]]:
    """The bundled names, or those of a folder or zip that holds female.txt and male.txt (as NLTK's corpus does).

    Raises: DataError if there are no such lists.
    """
    if path is None:
        return {gender: list(names) for gender, names in names_hierarchy().children.items()}
    try:
        if path.is_dir():
            found = {gender: next(path.rglob(f"{gender}.txt")).read_text(encoding="utf-8") for gender in GENDERS}
        else:
            with zipfile.ZipFile(path) as held:
                entries = {Path(name).name: name for name in held.namelist()}
                found = {gender: held.read(entries[f"{gender}.txt"]).decode("utf-8") for gender in GENDERS}
    except (OSError, StopIteration, KeyError, zipfile.BadZipFile, UnicodeDecodeError):
        raise DataError(f"{path}: holds no female.txt and male.txt; give a folder or zip of them") from None
    return {gender: text.split() for gender, text in found.items()}


def named_prompts(model: Model, names: Mapping[str, Sequence[str]], templates: Sequence[str]) -> NamedPrompts:
    """Every name in every template, with the place of the name's last token.

    Raises: DataError if "he" and "she" are not single tokens.
    """
    he, she = pronoun_tokens(model)
    rows, places, clusters, signs, texts = [], [], [], [], []
    everyone = [(gender, name) for gender in GENDERS for name in names[gender]]
    begin = [] if model.bos_token_id is None else [model.bos_token_id]
    for cluster, (gender, name) in enumerate(everyone):
        for template in templates:
            text = template.format(n=name)
            ends = text.index(name) + len(name)
            encoded = model.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            at = max(i for i, (start, _) in enumerate(encoded["offset_mapping"]) if start < ends)
            rows.append([*begin, *encoded["input_ids"]])
            places.append(len(begin) + at)
            clusters.append(cluster)
            signs.append(1.0 if gender == "male" else -1.0)
            texts.append(text)
    n = len(rows)
    prompts = prompts_of(rows, answers=[he] * n, foils=[she] * n, clusters=clusters, places={NAME: places}, texts=texts)
    return NamedPrompts(prompts, np.array(signs))


def pronoun_tokens(model: Model) -> tuple[int, int]:
    """ "he" and "she" as they follow a word; some tokenizers put the blank before a word themselves.

    Raises: DataError if they are not single tokens.
    """
    for blank in (" ", ""):
        he, she = (model.tokenizer(f"{blank}{word}", add_special_tokens=False)["input_ids"] for word in ("he", "she"))
        if len(he) == len(she) == 1:
            return he[0], she[0]
    raise DataError(f'{model.name}: "he" and "she" are not one token each in its tokenizer; give another model')
