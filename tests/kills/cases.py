"""What is killed: small runs of every command that can be taken up again, on a tiny random model and invented text."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.families import save_model, tiny_model
from tests.texts import tiny_texts, write_jsonl

OUT = "run"
"""What every case writes, relative to the folder that it is run in."""
N_STEPS, BATCH, SAVE_EVERY = 60, 64, 8
HOOK, OTHER_HOOK = "blocks.1.hook_resid_post", "blocks.0.hook_mlp_out"
# Under so heavy a penalty some features are dead at each of these moments.
_STARVED = ["--sae.l0-control", "false", "--sae.l1-coefficient", "8", "--lr", "0.02", "--sae.dead-share", "0.1"]
# A code that one batch passes over is dead, so that many begin anew.
_CODEBOOK = ["--architecture", "codebook", "--sae.dead-share", "0.01", "--sae.resample-at", "0.5,0.65,0.8"]
TRAINED: Mapping[str, list[str]] = {
    "topk": ["--architecture", "topk"],
    "matryoshka": ["--architecture", "matryoshka"],
    "jumprelu": ["--architecture", "jumprelu"],
    "gated": ["--architecture", "gated", *_STARVED, "--sae.resample-at", "0.5,0.65,0.8"],
    "standard": ["--architecture", "standard"],
    "skip-transcoder": [
        "--architecture", "topk", "--sae.skip", "true", "--hook", "blocks.0.ln2.hook_out", "--hook-out", OTHER_HOOK,
    ],
    "crosscoder": ["--architecture", "batch_topk", "--hook", OTHER_HOOK, "--more-hooks", HOOK],
    "muon": ["--architecture", "topk", "--optimiser", "muon"],
    "plain codebook": _CODEBOOK,
    "grouped codebook": [*_CODEBOOK, "--sae.codebook-variant", "grouped", "--sae.n-groups", "4"],
    "residual codebook": [*_CODEBOOK, "--sae.codebook-variant", "residual", "--sae.n-stages", "2"],
    "latent codebook": [*_CODEBOOK, "--sae.codebook-variant", "latent", "--sae.levels", "12"],
}  # fmt: skip
_DATA = ["--data.context-size", "16", "--data.batch-tokens", "64", "--data.heldout-share", "0.2"]


@dataclass(frozen=True, slots=True)
class Case:
    """A command, how it is started, how it is taken up again, and the folder that it finds, if any."""

    command: str
    variant: str
    start: tuple[str, ...]
    again: tuple[str, ...]
    finds: Path | None = None

    @property
    def name(self) -> str:
        return f"{self.command} {self.variant}".strip()


def make_inputs(folder: Path) -> None:
    """A model, its text, and the config of a sweep."""
    save_model(tiny_model("llama"), folder / "model")
    write_jsonl(folder / "texts.jsonl", tiny_texts(300))
    base = {
        "model": str(folder / "model"),
        "dataset": str(folder / "texts.jsonl"),
        "batch_size": BATCH,
        "tokens": BATCH * N_STEPS,
        "hook": HOOK,
        "sae": {"d_sae": 48, "k": 4},
        "shuffle": {"block_tokens": 5 * BATCH},
        "data": {"context_size": 16, "batch_tokens": 64, "heldout_share": 0.2},
        "recording": {"log_every": 4, "checkpoint_every": SAVE_EVERY},
    }
    grid = {"sae.architecture": ["matryoshka", "topk"]}
    also = [{"sae.architecture": "jumprelu", "hook": OTHER_HOOK}]
    (folder / "sweep.yaml").write_text(yaml.safe_dump({"base": base, "grid": grid, "also": also}))


def cases(inputs: Path, trained: Path, described: Path) -> list[Case]:
    """All of them; `trained` and `described` are where `make_trained` and `make_described` put their runs."""
    found = [_resumed("train", name, [*_train(inputs), *words]) for name, words in TRAINED.items()]
    found.append(_resumed("sweep", "", [str(inputs / "sweep.yaml"), "--eval-tokens", "300"]))
    store = ["--hooks", f"{HOOK},{OTHER_HOOK}", "--tokens", "3000", "--store.shard-tokens", "256"]
    found.append(_resumed("collect", "", [*_text(inputs), *_DATA, *store]))
    words = ("features", OUT, "--tokens", "2000", "--examples", "6", "--window", "12")
    found.append(Case("features", "", words, words, finds=trained))
    found.append(Case("features", "with labels", words, words, finds=described))
    return found


def trained_words(inputs: Path) -> tuple[str, ...]:
    """What makes the run whose features are looked at."""
    return ("train", *_train(inputs), *TRAINED["matryoshka"], "--out", OUT)


def add_label(run: Path) -> None:
    """A person's label, which a new pass must keep."""
    with closing(sqlite3.connect(run / "features" / "features.sqlite")) as index, index:
        index.execute("INSERT INTO labels VALUES (3, 'colours', '', '2000-01-01T00:00:00+00:00')")


def _resumed(command: str, variant: str, words: list[str]) -> Case:
    start = (command, *words, "--out", OUT)
    return Case(command, variant, start, (*start, "--resume"))


def _text(inputs: Path) -> list[str]:
    return ["--model", str(inputs / "model"), "--dataset", str(inputs / "texts.jsonl")]


def _train(inputs: Path) -> list[str]:
    sizes = ["--d-sae", "48", "--k", "4", "--batch-size", str(BATCH), "--tokens", str(BATCH * N_STEPS)]
    often = ["--recording.log-every", "4", "--recording.checkpoint-every", str(SAVE_EVERY)]
    return [*_text(inputs), "--hook", HOOK, *sizes, "--shuffle.block-tokens", str(5 * BATCH), *_DATA, *often]
