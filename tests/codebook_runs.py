"""A tiny model and text in a folder, for codebook runs that take a second."""

import json

from tests.families import save_model, tiny_model


def write_inputs(folder, kind="gpt2"):
    """A base model and 60 documents of words."""
    save_model(tiny_model(kind), folder / "base")
    words = [" ".join(f"w{4 + (i * j) % 30}" for j in range(1, 12)) for i in range(1, 60)]
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in words))


def run_settings(folder, name, **more):
    """Settings of a run of five steps in the folder."""
    return {
        "model": str(folder / "base"), "dataset": str(folder / "text.jsonl"), "out": str(folder / name),
        "n_codes": 12, "k": 2, "tokens": 600, "evaluation_tokens": 100, "device": "cpu",
        "data": {"context_size": 16, "batch_tokens": 120, "heldout_share": 0.2},
    } | more  # fmt: skip
