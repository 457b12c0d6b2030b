"""Pairs of prompts from a JSONL file, with those that are held out for testing told apart.

A line is {"clean": text, "corrupt": text, "answer": text, "foil": text, "cluster": any name, "split": "train" or
"heldout"}; cluster and split may be left out. Answers are single tokens as they follow the text, mostly " word".
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from interp.document_hash import split_share
from interp.errors import DataError
from interp.models import Model
from interp.prompt_files import pairs_of, read_records
from interp.prompts import PromptPairs

FIELDS = ("clean", "corrupt", "answer", "foil")
HELDOUT_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class SplitPairs:
    """Pairs to find something on, and pairs to test it on, that share no cluster."""

    train: PromptPairs
    heldout: PromptPairs
    source: str
    content_hash: str

    @property
    def facts(self) -> dict[str, Any]:
        """What is recorded of the prompts."""
        return {
            "prompts": self.source,
            "content_hash": self.content_hash,
            "n_train": len(self.train),
            "n_heldout": len(self.heldout),
        }


def read_split_pairs(path: Path, model: Model) -> SplitPairs:
    """The pairs of a file. Where no line says its split, half of the clusters are held out, by the hash of their name.

    Raises: DataError for a line that lacks a field, a cluster or a prompt on both sides or an empty side; ShapeError
    for a pair that does not align.
    """
    return split_pairs(read_records(path, FIELDS, ("cluster", "split")), model, source=str(path))


def split_pairs(lines: Sequence[Mapping[str, Any]], model: Model, *, source: str) -> SplitPairs:
    """The same from parsed lines.

    Raises: as `read_split_pairs` does.
    """
    clusters = [str(line.get("cluster", f"line {number}")) for number, line in enumerate(lines)]
    splits = [_split(line, cluster) for line, cluster in zip(lines, clusters, strict=True)]
    both = {c for c, s in zip(clusters, splits, strict=True) if s == "train"} & {
        c for c, s in zip(clusters, splits, strict=True) if s == "heldout"
    }
    if both:
        raise DataError(f"{source}: cluster {sorted(both)[0]!r} is in train and in heldout; keep each on one side")
    _check_apart(lines, splits, source)
    sides = {}
    for side in ("train", "heldout"):
        chosen = [index for index, split in enumerate(splits) if split == side]
        if not chosen:
            raise DataError(f"{source}: got no {side} pairs of {len(lines)}; give some lines the split {side!r}")
        sides[side] = pairs_of(model, [{**lines[i], "cluster": clusters[i]} for i in chosen])
    digest = sha256(json.dumps(list(map(dict, lines)), sort_keys=True).encode()).hexdigest()
    return SplitPairs(sides["train"], sides["heldout"], source, digest)


def _check_apart(lines: Sequence[Mapping[str, Any]], splits: Sequence[str], source: str) -> None:
    """Raises: DataError for a clean prompt of both sides, or a pair that stands in the other turned round."""
    cleans: dict[str, set[str]] = {"train": set(), "heldout": set()}
    pairs: dict[str, set[frozenset[str]]] = {"train": set(), "heldout": set()}
    for number, (line, split) in enumerate(zip(lines, splits, strict=True), 1):
        pair, other = frozenset((line["clean"], line["corrupt"])), "train" if split == "heldout" else "heldout"
        if line["clean"] in cleans[other] or pair in pairs[other]:
            raise DataError(
                f"{source}, line {number}: {line['clean']!r} is in train and in heldout; give its lines one cluster"
            )
        cleans[split].add(line["clean"])
        pairs[split].add(pair)


def _split(line: Mapping[str, Any], cluster: str) -> str:
    if "split" not in line:
        return "heldout" if split_share(cluster) < HELDOUT_SHARE else "train"
    if line["split"] not in ("train", "heldout"):
        raise DataError(f"split: got {line['split']!r}; expected train or heldout")
    return str(line["split"])
