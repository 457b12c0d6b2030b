"""Loss and accuracy of a model with codebooks on held-out text.

Axes: n documents.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from interp.codebooks.batches import NO_TARGET, LanguageBatch
from interp.effects import ratio_effect
from interp.errors import ArtifactError, DataError
from interp.models import Model
from interp.storage import read_json, write_json
from interp.token_rows import TokenBatch

SCHEMA_VERSION = 1
Interval = tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class LanguageScores:
    """How well a model predicts, with 95% intervals over documents. Units: nats per predicted token; share right."""

    loss_nats: float
    loss_interval: Interval
    accuracy: float
    accuracy_interval: Interval
    n_tokens: int
    n_documents: int

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
        try:
            values = {name: held[name] for name in LanguageScores.__slots__}
        except KeyError:
            raise ArtifactError(f"{path}: is damaged; evaluate again") from None
        for name in ("loss_interval", "accuracy_interval"):
            values[name] = values[name] and tuple(values[name])
        return LanguageScores(**values)

    def _repr_html_(self) -> str:
        """Both figures as a table."""
        rows = (("loss, nats a token", self.loss_nats), ("accuracy", self.accuracy))
        cells = "".join(f"<tr><td>{name}</td><td>{value:.4f}</td></tr>" for name, value in rows)
        return f"<table><caption>{self.n_tokens:,} held-out tokens</caption>{cells}</table>"


@torch.no_grad()
def score_language(model: Model, batches: Iterable[TokenBatch], *, n_tokens: int) -> LanguageScores:
    """Scores of the model as it stands, codebooks included where they are inserted, on about `n_tokens` tokens.

    Raises: DataError if nothing is predicted in them.
    """
    parts: list[np.ndarray] = []
    n_seen = 0
    for batch in batches:
        rows = LanguageBatch.of(batch, model.device)
        parts.append(_by_document(model, rows, batch))
        n_seen += rows.n_tokens
        if n_seen >= n_tokens:
            break
    if not n_seen:
        raise DataError("got no token to predict in the held-out text; give more text or a larger held-out share")
    document, nats, right = np.concatenate(parts).T
    _, member = np.unique(document, return_inverse=True)
    counts = np.bincount(member).astype(np.float64)
    sums = np.stack([np.bincount(member, weights=values) for values in (nats, right)])
    found = ratio_effect(sums, counts, np.arange(len(counts)))
    loss, accuracy = found.value.tolist()
    between: list[Interval] = [None, None]
    if found.interval is not None:
        between = [(float(low), float(high)) for low, high in found.interval.T]
    return LanguageScores(loss, between[0], accuracy, between[1], len(nats), len(counts))


def _by_document(model: Model, rows: LanguageBatch, batch: TokenBatch) -> np.ndarray:
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
