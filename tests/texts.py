"""Invented text for the tiny models of tests.families, whose words are w4 to w39."""

import json
import random
from pathlib import Path


def tiny_texts(n_documents: int = 40, *, seed: int = 0, longest: int = 30) -> list[str]:
    """Documents of 1 to `longest` random words."""
    draw = random.Random(seed)
    return [
        " ".join(f"w{draw.randrange(4, 40)}" for _ in range(draw.randrange(1, longest + 1))) for _ in range(n_documents)
    ]


def write_jsonl(path: Path, texts: list[str]) -> Path:
    """One {"text": …} a line."""
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path
