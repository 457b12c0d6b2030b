"""The documents of a pretraining run, split by the hash of their text."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from interp.document_hash import split_share
from interp.documents import open_documents
from interp.errors import DataError
from interp.pretraining.config import PretrainConfig


@dataclass(frozen=True, slots=True)
class SplitTexts:
    """Texts to train on and texts never trained on, each without repetitions."""

    train: Sequence[str]
    heldout: Sequence[str]
    content_hash: str

    @property
    def facts(self) -> dict[str, Any]:
        """What a manifest records of the data."""
        return {
            "content_hash": self.content_hash,
            "split": {"by": "document hash", "train": len(self.train), "heldout": len(self.heldout)},
            "bytes": {"train": _n_bytes(self.train), "heldout": _n_bytes(self.heldout)},
        }


def read_texts(config: PretrainConfig) -> SplitTexts:
    """Read all documents and split them. Of equal documents the first is kept; they could not straddle the split.

    Raises: DataError if the data set cannot be read or leaves one side of the split empty.
    """
    documents = open_documents(expand_variables(config.dataset), text_field=config.text_field)
    texts = dict.fromkeys(text for _, text in documents.iter_from() if text.strip())
    train = [text for text in texts if split_share(text) >= config.heldout_share]
    heldout = [text for text in texts if split_share(text) < config.heldout_share]
    if not train or not heldout:
        raise DataError(
            f"{config.dataset}: {len(train)} documents to train on and {len(heldout)} held out; both are needed: "
            "give more text or another heldout_share"
        )
    return SplitTexts(train, heldout, documents.content_hash)


def expand_variables(path: str) -> str:
    """The path with environment variables filled in.

    Raises: DataError if a variable is not set.
    """
    expanded = os.path.expandvars(path)
    if "$" in expanded:
        raise DataError(f"{path}: the environment variable in it is not set; set it or give the path of the text")
    return expanded


def _n_bytes(texts: Sequence[str]) -> int:
    return sum(len(text.encode()) for text in texts)
