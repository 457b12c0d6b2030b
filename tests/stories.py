"""Invented stories for a language model small enough to train in a test."""

import random
from pathlib import Path
from typing import Any

from interp.pretraining.config import PretrainConfig
from tests.texts import write_jsonl

_WHO = ("Tom", "Lily", "the cat", "a dog", "Grandma", "Zoë")
_DID = ("saw", "found", "hid", "painted", "dropped")
_WHAT = ("a red ball", "the big tree", "some soup", "a shiny stone", "the moon")


def invented_stories(n: int = 60, *, seed: int = 0, longest: int = 12) -> list[str]:
    """Stories of 1 to `longest` sentences, some with line breaks."""
    draw = random.Random(seed)
    return [
        " ".join(
            f"{draw.choice(_WHO)} {draw.choice(_DID)} {draw.choice(_WHAT)}.{draw.choice(['', '', chr(10)])}"
            for _ in range(draw.randrange(1, longest + 1))
        )
        for _ in range(n)
    ]


def tiny_pretraining(folder: Path, **settings: Any) -> PretrainConfig:
    """Twelve steps of a model of 2 layers and width 16 on invented stories, kept in `folder`."""
    dataset = folder / "stories.jsonl"
    if not dataset.exists():
        write_jsonl(dataset, invented_stories())
    values = {
        "dataset": str(dataset),
        "out": str(folder / "run"),
        "heldout_share": 0.2,
        "architecture": {
            "n_layers": 2,
            "d_model": 16,
            "n_heads": 2,
            "d_mlp": 24,
            "context_size": 32,
            "vocab_size": 300,
        },
        "tokens": 12 * 256,
        "batch_tokens": 256,
        "evaluate_every": 4,
        "evaluate_documents": 5,
        "sample_documents": 10,
        "device": "cpu",
        "recording": {"log_every": 2, "checkpoint_every": 3},
    }
    return PretrainConfig.parse(values | settings)
