"""Loss and accuracy of a model with codebooks on held-out text.

Axes: n documents.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray

from interp.codebooks.batches import NO_TARGET, LanguageBatch
from interp.effects import Estimate, ratio_effect
from interp.errors import ArtifactError, DataError
from interp.models import Model
from interp.storage import read_json, write_json
from interp.token_rows import TokenBatch

SCHEMA_VERSION = 1
Interval = tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class LanguageScores:
    """How well a model predicts, with 95% intervals over documents. Units: nats per predicted token; share right.

    split: "heldout", or "all" for text that training read too; None where the text is not said.
    """

    loss_nats: float
    loss_interval: Interval
    accuracy: float
    accuracy_interval: Interval
    n_tokens: int
    n_documents: int
    split: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        held = {name: getattr(self, name) for name in self.__slots__}
        held |= {name: held[name] and list(held[name]) for name in ("loss_interval", "accuracy_interval")}
        return {"schema_version": SCHEMA_VERSION, "kind": "language_scores", **held}

    def save(self, path: Path) -> None:
        """Write as JSON.

        Raises: StorageError.
        """
        write_json(path, self.to_json())

    @staticmethod
    def load(path: Path) -> "LanguageScores":
        """Read what `save` wrote.

        Raises: ArtifactError if it is missing, damaged or of another version.
        """
        held = read_json(path)
        if not isinstance(held, dict) or held.get("kind") != "language_scores":
            raise ArtifactError(f"{path}: holds no scores of a language model; evaluate again")
        if held.get("schema_version") != SCHEMA_VERSION:
            raise ArtifactError(f"{path}: is of another version than {SCHEMA_VERSION}; evaluate again")
        try:
            return LanguageScores.from_json(held)
        except (KeyError, TypeError):
            raise ArtifactError(f"{path}: is damaged; evaluate again") from None

    @staticmethod
    def from_json(held: Mapping[str, Any]) -> "LanguageScores":
        """The inverse of `to_json`."""
        values = {name: held[name] for name in LanguageScores.__slots__ if name in held}
        for name in ("loss_interval", "accuracy_interval"):
            values[name] = values[name] and tuple(values[name])
        return LanguageScores(**values)

    def _repr_html_(self) -> str:
        """Both figures as a table."""
        rows = (("loss, nats a token", self.loss_nats), ("accuracy", self.accuracy))
        cells = "".join(f"<tr><td>{name}</td><td>{value:.4f}</td></tr>" for name, value in rows)
        return f"<table><caption>{self.n_tokens:,} tokens{self.told}</caption>{cells}</table>"

    @property
    def told(self) -> str:
        """What the text was, as the end of a phrase."""
        return {"heldout": " of held-out text", "all": " of text that training read too"}.get(self.split or "", "")


@dataclass(frozen=True, slots=True)
class DocumentSums:
    """A model's predictions, summed over the tokens of each document.

    Shapes: all (n,). Units: nats; right guesses; tokens.
    """

    document: Int[ndarray, " n"]
    nats: Float[ndarray, " n"]
    right: Float[ndarray, " n"]
    count: Float[ndarray, " n"]

    def scores(self) -> LanguageScores:
        """Loss and accuracy, with intervals over documents."""
        found = ratio_effect(np.stack([self.nats, self.right]), self.count, np.arange(len(self.count)))
        loss, accuracy = found.value.tolist()
        between = _between(found)
        return LanguageScores(loss, between[0], accuracy, between[1], int(self.count.sum()), len(self.count))

    def loss_above(self, other: "DocumentSums") -> tuple[float, Interval]:
        """How much more another model's loss this one is on the same documents, with its interval over them.

        Raises: DataError if the documents or their tokens differ.
        """
        same = np.array_equal(self.document, other.document) and np.array_equal(self.count, other.count)
        if not same:
            raise DataError("got scores of other documents; compare models that were scored on the same text")
        found = ratio_effect((self.nats - other.nats)[None], self.count, np.arange(len(self.count)))
        return float(found.value[0]), _between(found)[0]


def _between(found: Estimate) -> list[Interval]:
    if found.interval is None:
        return [None] * len(found.value)
    return [(float(low), float(high)) for low, high in found.interval.T]


def score_language(
    model: Model, batches: Iterable[TokenBatch], *, n_tokens: int, split: str | None = None
) -> LanguageScores:
    """Scores of the model as it stands, codebooks included where they are inserted, on about `n_tokens` tokens.

    Raises: DataError if nothing is predicted in them.
    """
    return replace(document_sums(model, batches, n_tokens=n_tokens).scores(), split=split)


@torch.no_grad()
def document_sums(model: Model, batches: Iterable[TokenBatch], *, n_tokens: int) -> DocumentSums:
    """What `score_language` is made of, document by document, so that two models can be compared on each.

    Raises: DataError if nothing is predicted in them.
    """
    parts: list[ndarray] = []
    n_seen = 0
    for batch in batches:
        rows = LanguageBatch.of(batch, model.device)
        parts.append(_by_document(model, rows, batch))
        n_seen += rows.n_tokens
        if n_seen >= n_tokens:
            break
    if not n_seen:
        raise DataError("got no token to predict in the text to score on; give more text or a larger held-out share")
    document, nats, right = np.concatenate(parts).T
    numbers, member = np.unique(document, return_inverse=True)
    counts = np.bincount(member).astype(np.float64)
    nats, right = (np.bincount(member, weights=values) for values in (nats, right))
    return DocumentSums(numbers.astype(np.int64), nats, right, counts)


def _by_document(model: Model, rows: LanguageBatch, batch: TokenBatch) -> ndarray:
    """Document, nats and whether the guess was right, for every predicted token."""
    positions = {} if rows.position_ids is None else {"position_ids": rows.position_ids}
    forward: Any = model.hf
    logits = forward(rows.token_ids, use_cache=False, **positions).logits.float()
    real = rows.targets != NO_TARGET
    scored, targets = logits[real], rows.targets[real]
    nats = torch.nn.functional.cross_entropy(scored, targets, reduction="none")
    right = (scored.argmax(1) == targets).float()
    document = batch.document.to(real.device)[real]
    return torch.stack([document.double(), nats.double(), right.double()], dim=1).cpu().numpy()
