"""A model's activations, and a dictionary's features, at the labelled places of a concept set.

Axes: n examples, d width of the hooks, f features, t position, m chosen features.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from interp.code import Code, FeatureDictionary
from interp.errors import ConfigError, DataError
from interp.hooks import capture
from interp.models import Model
from probes.concepts import ExampleSet, Side

_BATCH_ROWS = 128
_ENCODED_ROWS = 4096


@dataclass(frozen=True, slots=True)
class PlacedRow:
    """The tokens of a text, BOS included, and which of them carries the labels."""

    token_ids: list[int]
    place: int


@dataclass(frozen=True, slots=True)
class ConceptActivations:
    """One set's examples as a model sees them.

    Shapes: acts (n, d); labels[attribute] (n,) index into the attribute's classes; word (n,) numbers of the words;
    heldout (n,).
    """

    name: str
    attributes: dict[str, tuple[str, ...]]
    acts: Float[Tensor, "n d"]
    labels: dict[str, Int[ndarray, " n"]]
    word: Int[ndarray, " n"]
    heldout: Bool[ndarray, " n"]
    prefixes: list[list[int]] = field(repr=False)

    def rows(self, side: Side) -> Int[ndarray, " m"]:
        """The examples of one side of the split."""
        return np.flatnonzero(self.heldout == (side == "test"))


def harvest_concept(model: Model, concept: ExampleSet, hooks: Sequence[str]) -> ConceptActivations:
    """Activations at the token that carries each example's labels.

    Raises: DataError if a text is too long for the model or its place holds no token; UnknownHookError.
    """
    rows = [place_text(model, example.text, example.place, concept.name) for example in concept.examples]
    acts = activations_at(model, rows, hooks)
    words = {word: number for number, word in enumerate(sorted({example.unit for example in concept.examples}))}
    labels = {
        attribute: np.array([classes.index(example.labels[attribute]) for example in concept.examples])
        for attribute, classes in concept.attributes.items()
    }
    return ConceptActivations(
        concept.name,
        dict(concept.attributes),
        acts,
        labels,
        word=np.array([words[example.unit] for example in concept.examples]),
        heldout=np.array([example.side == "test" for example in concept.examples]),
        prefixes=[row.token_ids[: row.place + 1] for row in rows],
    )


def place_text(model: Model, text: str, place: tuple[int, int], where: str) -> PlacedRow:
    """Tokens of a text with the model's own frame around it, and the last token that reaches into `place`.

    Raises: DataError if there is none, or the text does not fit the context.
    """
    encoded = model.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    begin = [] if model.frame.begin is None else [model.frame.begin]
    end = [] if model.frame.end is None else [model.frame.end]
    inside = [
        index
        for index, (start, stop) in enumerate(encoded["offset_mapping"])
        if start < place[1] and stop > place[0] and stop > start
    ]
    token_ids = [*begin, *encoded["input_ids"], *end]
    if not inside:
        raise DataError(f"{where}: no token stands at characters {place[0]} to {place[1]} of {text[:60]!r}; mend `at`")
    if len(token_ids) > model.context_size:
        raise DataError(
            f"{where}: got a text of {len(token_ids)} tokens ({text[:40]!r}…); {model.name} reads at most "
            f"{model.context_size}; shorten it"
        )
    return PlacedRow(token_ids, len(begin) + inside[-1])


def iter_placed(
    model: Model, rows: Sequence[PlacedRow]
) -> Iterator[tuple[slice, Int[Tensor, "b t"], Int[Tensor, "b t"], Int[Tensor, " b"]]]:
    """Rows padded on the right, in batches: which rows, their tokens, their mask, the place in each."""
    pad = model.tokenizer.pad_token_id
    pad = pad if pad is not None and pad < model.d_vocab else 0
    for start in range(0, len(rows), _BATCH_ROWS):
        held = rows[start : start + _BATCH_ROWS]
        width = max(len(row.token_ids) for row in held)
        token_ids = torch.full((len(held), width), pad, dtype=torch.int64)
        mask = torch.zeros(len(held), width, dtype=torch.int64)
        for index, row in enumerate(held):
            token_ids[index, : len(row.token_ids)] = torch.tensor(row.token_ids)
            mask[index, : len(row.token_ids)] = 1
        yield slice(start, start + len(held)), token_ids, mask, torch.tensor([row.place for row in held])


def activations_at(model: Model, rows: Sequence[PlacedRow], hooks: Sequence[str]) -> Float[Tensor, "n d"]:
    """Activations of the hooks side by side, at each row's place."""
    found = []
    for _, token_ids, mask, place in iter_placed(model, rows):
        acts = capture(model, token_ids, hooks, attention_mask=None if model.causal else mask)
        each = torch.arange(token_ids.shape[0])
        found.append(torch.cat([x[each.to(x.device), place.to(x.device)] for x in acts.values()], dim=1).float().cpu())
    return torch.cat(found)


@dataclass(frozen=True, slots=True)
class FeatureActivations:
    """What a dictionary makes of activations, read column by column: the whole matrix need not fit.

    Shapes: directions (f, d).
    """

    dictionary: FeatureDictionary
    codes: tuple[Code, ...]

    @property
    def n_rows(self) -> int:
        return sum(code.n_rows for code in self.codes)

    def columns(self, features: Sequence[int] | Int[ndarray, " m"]) -> Float[Tensor, "n m"]:
        """The chosen features' values on all examples."""
        wanted = torch.as_tensor(np.asarray(features, dtype=np.int64))
        slot = torch.full((self.dictionary.d_sae,), -1, dtype=torch.int64)
        slot[wanted] = torch.arange(wanted.shape[0])
        parts = []
        for code in self.codes:
            there = slot[code.features.long()]
            hit = there >= 0
            dense = torch.zeros(code.n_rows, wanted.shape[0])
            dense[code.rows()[hit], there[hit]] = code.values[hit].float()
            parts.append(dense)
        return torch.cat(parts)

    def class_means(self, groups: Int[ndarray, " n"], n_groups: int) -> Float[Tensor, "c f"]:
        """Mean of every feature over the examples of each group; group -1 is left out."""
        return self._sums(groups, n_groups, fired=False) / _sizes(groups, n_groups)

    def density(self, chosen: Bool[ndarray, " n"]) -> Float[Tensor, " f"]:
        """Share of the chosen examples on which each feature fires."""
        groups = np.where(chosen, 0, -1)
        return (self._sums(groups, 1, fired=True) / _sizes(groups, 1))[0]

    def _sums(self, groups: Int[ndarray, " n"], n_groups: int, *, fired: bool) -> Float[Tensor, "c f"]:
        total = torch.zeros(n_groups * self.dictionary.d_sae, dtype=torch.float64)
        group, start = torch.as_tensor(groups), 0
        for code in self.codes:
            own = group[start : start + code.n_rows][code.rows()]
            hit = (own >= 0) & (code.values > 0 if fired else torch.ones_like(code.values, dtype=torch.bool))
            values = torch.ones_like(code.values) if fired else code.values
            total.index_add_(0, (own * self.dictionary.d_sae + code.features.long())[hit], values[hit].double())
            start += code.n_rows
        return total.view(n_groups, self.dictionary.d_sae)

    def without(
        self, x: Float[Tensor, "n d"], features: Sequence[int], *, rows: Int[ndarray, " m"] | None = None
    ) -> Float[Tensor, "n d"]:
        """Activations with what the chosen features add taken away; the reconstruction's error stays.

        `rows`: which of the examples `x` holds; all by default.
        """
        values = self.columns(features)
        values = values if rows is None else values[torch.as_tensor(rows)]
        return x - values @ self.directions(features)

    def directions(self, features: Sequence[int]) -> Float[Tensor, "m d"]:
        """What a unit of each chosen feature adds."""
        device = next((code.values.device for code in self.codes), torch.device("cpu"))
        with torch.no_grad():
            return (
                self.dictionary.directions(torch.tensor(list(features), dtype=torch.int64, device=device))
                .detach()
                .float()
                .cpu()
            )


def _sizes(groups: Int[ndarray, " n"], n_groups: int) -> Float[Tensor, "c 1"]:
    counts = np.bincount(groups[groups >= 0], minlength=n_groups)
    return torch.as_tensor(np.maximum(counts, 1), dtype=torch.float64)[:, None]


@torch.no_grad()
def encode_features(dictionary: FeatureDictionary, acts: Float[Tensor, "n d"]) -> FeatureActivations:
    """The dictionary's features of each example.

    Raises: ConfigError if the dictionary reads one hook and writes another, where taking a feature out of what was
    read means nothing.
    """
    if dictionary.hooks_in != dictionary.hooks_out:
        raise ConfigError(
            f"got a dictionary from {', '.join(dictionary.hooks_in)} to {', '.join(dictionary.hooks_out)}; concepts "
            "are measured on one that writes where it reads; give such an SAE"
        )
    codes = (dictionary.encode(part) for part in acts.split(_ENCODED_ROWS))
    return FeatureActivations(dictionary, tuple(_on_cpu(code) for code in codes))


def _on_cpu(code: Code) -> Code:
    values, features, offsets = (tensor.detach().cpu() for tensor in (code.values, code.features, code.row_offsets))
    return Code(values.float(), features, offsets, code.d_sae)
