"""Activations of labelled places at any number of hooks, in one forward pass for each text.

Axes: n labelled places, d width of a hook, f features, b rows, t position.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.sparse import csr_array
from torch import Tensor

from interp.code import FeatureDictionary
from interp.errors import DataError
from interp.hooks import capture
from interp.models import Model
from probes.concept_activations import FeatureActivations, encode_features
from probes.probe_labels import LabelledText, Place, attributes_of

_BATCH_TOKENS = 4096
Progress = Callable[[str, int, int], None]
Inputs = Float[ndarray, "n d"] | csr_array
"""What a probe reads: activations, or features as a sparse matrix."""


@dataclass(frozen=True, slots=True)
class ProbeData:
    """Labelled places as a model sees them.

    Shapes: acts[hook] (n, d), at the last token of each place; labels[attribute] (n,), an index into the attribute's
    classes or -1; word, document, text (n,), numbers of the words, documents and texts; word_held_out,
    document_held_out (n,), the two splits. own: token ids of each place; around: those of its text that the model sees
    beside it.
    """

    acts: Mapping[str, Float[Tensor, "n d"]]
    classes: Mapping[str, tuple[str, ...]]
    labels: Mapping[str, Int[ndarray, " n"]]
    word: Int[ndarray, " n"]
    document: Int[ndarray, " n"]
    text: Int[ndarray, " n"]
    word_held_out: Bool[ndarray, " n"]
    document_held_out: Bool[ndarray, " n"]
    own: list[list[int]] = field(repr=False)
    around: list[list[int]] = field(repr=False)
    n_texts_too_long: int = 0
    n_places_without_token: int = 0

    @property
    def n(self) -> int:
        return int(self.word.shape[0])


@dataclass(frozen=True, slots=True)
class _Found:
    """A place and its tokens [first, last] in the row of its text."""

    place: Place
    text: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class EncodedText:
    """Tokens of a text with the model's frame around them, and the characters of each (0, 0 for the frame)."""

    token_ids: list[int]
    spans: list[tuple[int, int]]


def encode_text(model: Model, text: str) -> EncodedText:
    """Tokens of a text; a BOS that the text itself begins with (a chat template's) is not doubled."""
    encoded = model.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids, spans = list(encoded["input_ids"]), [(int(a), int(b)) for a, b in encoded["offset_mapping"]]
    begin = [] if model.frame.begin is None or ids[:1] == [model.frame.begin] else [model.frame.begin]
    end = [] if model.frame.end is None else [model.frame.end]
    blank = (0, 0)
    return EncodedText([*begin, *ids, *end], [*(blank for _ in begin), *spans, *(blank for _ in end)])


def harvest_places(
    model: Model,
    texts: Sequence[LabelledText],
    hooks: Sequence[str],
    *,
    held_out_share: float,
    on_progress: Progress | None = None,
) -> ProbeData:
    """Activations at the last token of every labelled place, at all hooks at once.

    Texts that the model cannot read in one piece and places without a token are left out and counted.

    Raises: DataError if nothing is left; UnknownHookError.
    """
    rows = [encode_text(model, text.text) for text in texts]
    short = [len(row.token_ids) <= model.context_size for row in rows]
    found = [one for i, fits in enumerate(short) if fits for one in _found_places(texts[i], rows[i], i)]
    if not found:
        raise DataError(f"{model.name}: none of {len(texts)} labelled texts fits its context; give shorter texts")
    acts = _activations(model, rows, found, hooks, on_progress)
    n_places = sum(len(text.places) for text, fits in zip(texts, short, strict=True) if fits)
    return _data(model, texts, rows, found, acts, held_out_share, short.count(False), n_places - len(found))


def _found_places(text: LabelledText, row: EncodedText, index: int) -> Iterator[_Found]:
    for place in text.places:
        inside = [
            at
            for at, (start, stop) in enumerate(row.spans)
            if start < place.end and stop > place.start and stop > start
        ]
        if inside:
            yield _Found(place, index, inside[0], inside[-1])


def _activations(
    model: Model,
    rows: Sequence[EncodedText],
    found: Sequence[_Found],
    hooks: Sequence[str],
    on_progress: Progress | None,
) -> dict[str, Float[Tensor, "n d"]]:
    of_text: dict[int, list[int]] = {}
    for number, one in enumerate(found):
        of_text.setdefault(one.text, []).append(number)
    acts = {hook: torch.empty(len(found), model.hook(hook).width) for hook in hooks}
    done = 0
    for batch in _batches(of_text, rows):
        token_ids, mask = padded(model, [rows[text].token_ids for text in batch])
        captured = capture(model, token_ids, hooks, attention_mask=None if model.causal else mask)
        numbers = [number for text in batch for number in of_text[text]]
        row = torch.tensor([slot for slot, text in enumerate(batch) for _ in of_text[text]])
        at = torch.tensor([found[number].last for number in numbers])
        for hook, x in captured.items():
            acts[hook][torch.tensor(numbers)] = x[row.to(x.device), at.to(x.device)].float().cpu()
        done += len(batch)
        if on_progress:
            on_progress("activations", done, len(of_text))
    return acts


def _batches(of_text: Mapping[int, list[int]], rows: Sequence[EncodedText]) -> Iterator[list[int]]:
    """Texts of like length together, so that little is padding."""
    batch: list[int] = []
    for text in sorted(of_text, key=lambda text: len(rows[text].token_ids)):
        if batch and len(rows[text].token_ids) * (len(batch) + 1) > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(text)
    yield batch


def padded(model: Model, rows: Sequence[list[int]]) -> tuple[Int[Tensor, "b t"], Int[Tensor, "b t"]]:
    """Rows padded on the right, and their mask."""
    pad = model.tokenizer.pad_token_id
    pad = pad if pad is not None and pad < model.d_vocab else 0
    width = max(len(row) for row in rows)
    token_ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return token_ids, mask


def _data(
    model: Model,
    texts: Sequence[LabelledText],
    rows: Sequence[EncodedText],
    found: Sequence[_Found],
    acts: Mapping[str, Float[Tensor, "n d"]],
    held_out_share: float,
    n_too_long: int,
    n_without_token: int,
) -> ProbeData:
    classes, labels = {}, {}
    for name in attributes_of(texts):
        answers = [one.place.labels.get(name) for one in found]
        classes[name] = tuple(sorted({answer for answer in answers if answer is not None}))
        slot = {answer: index for index, answer in enumerate(classes[name])}
        labels[name] = np.array([-1 if answer is None else slot[answer] for answer in answers])
    return ProbeData(
        acts=acts,
        classes=classes,
        labels=labels,
        word=_numbered([one.place.word for one in found]),
        document=_numbered([texts[one.text].document for one in found]),
        text=np.array([one.text for one in found]),
        word_held_out=np.array([one.place.word_is_held_out for one in found]),
        document_held_out=np.array([texts[one.text].is_held_out(held_out_share) for one in found]),
        own=[rows[one.text].token_ids[one.first : one.last + 1] for one in found],
        around=[_around(model, rows[one.text].token_ids, one) for one in found],
        n_texts_too_long=n_too_long,
        n_places_without_token=n_without_token,
    )


def _around(model: Model, ids: list[int], one: _Found) -> list[int]:
    """What stands before the place; after it too where the model sees that."""
    return ids[: one.first] if model.causal else [*ids[: one.first], *ids[one.last + 1 :]]


def _numbered(names: Sequence[str]) -> Int[ndarray, " n"]:
    return np.unique(np.array(names, dtype=object).astype(str), return_inverse=True)[1]


@dataclass(frozen=True, slots=True)
class FeatureInputs:
    """A dictionary's features of every labelled place: as a sparse matrix, and column by column.

    Shapes: matrix (n, f).
    """

    features: FeatureActivations
    matrix: csr_array


def encode_places(dictionary: FeatureDictionary, data: ProbeData) -> FeatureInputs:
    """What the dictionary makes of the activations at its hooks.

    Raises: ConfigError if it reads one hook and writes another.
    """
    features = encode_features(dictionary, torch.cat([data.acts[hook] for hook in dictionary.hooks_in], dim=1))
    values = np.concatenate([code.values.numpy() for code in features.codes])
    columns = np.concatenate([code.features.numpy() for code in features.codes])
    counts = np.concatenate([code.row_offsets.diff().numpy() for code in features.codes])
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return FeatureInputs(features, csr_array((values, columns, offsets), shape=(data.n, dictionary.d_sae)))
