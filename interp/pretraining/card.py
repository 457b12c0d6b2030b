"""The model card, written from what the run recorded."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from interp.pretraining.config import PretrainConfig
from interp.runs import RunManifest

_BASELINES = {
    "unigram": "unigram",
    "bigram": "bigram, modified Kneser-Ney",
    "kneser_ney_5": "5-gram, modified Kneser-Ney",
}


def model_card(config: PretrainConfig, manifest: RunManifest, evaluation: Mapping[str, Any], metrics: Path) -> str:
    """Data, recipe, loss, baselines, samples and licence of a finished run, as Markdown."""
    sections = [
        _head(config, manifest, evaluation),
        "## Bits per byte, held out\n\n" + _scores(config, evaluation),
        "## While training\n\n" + _curve(metrics),
        "## Word-for-word overlap with the training text\n\n" + _overlaps(manifest, evaluation),
        "## The first ten samples\n\n" + _samples(config, evaluation["samples"]),
        "## Licence\n\n" + _LICENCE,
    ]
    return "\n\n".join(sections) + "\n"


_LICENCE = (
    "The weights, tokenizer and sampled corpus were made by this repository's recipe and are offered under its MIT "
    "licence. They were learned from text under the licence named above; CDLA-Sharing-1.0 puts no restriction on "
    "results of computing on the data (section 3.5), and the text itself is not redistributed."
)


def _head(config: PretrainConfig, manifest: RunManifest, evaluation: Mapping[str, Any]) -> str:
    shape, data, machine = config.architecture, manifest.data, manifest.hardware
    n_parameters = manifest.results["n_parameters"]
    tokens_seen = f"{config.n_steps:,} steps of at most {config.batch_tokens:,} tokens"
    return f"""# A small language model

A Llama of {n_parameters:,} parameters: {shape.n_layers} layers, width {shape.d_model}, {shape.n_heads} heads, gated MLP of \
{shape.d_mlp}, context {shape.context_size}, embeddings tied. {evaluation["bits_per_byte"]["heldout"]:.3f} bits per byte on held-out text.
Half precision on disk; load it as float32 on a CPU. `<|bos|>` begins a document and ends it (it is the EOS token too);
`<|pad|>` goes on the right.

## Data

{config.data_note or config.dataset}
{data["split"]["train"]:,} documents ({data["bytes"]["train"]:,} bytes) to train on, {data["split"]["heldout"]:,} \
({data["bytes"]["heldout"]:,} bytes) held out by the BLAKE2 hash of their text; no document stands on both sides.
SHA-256 of the file: `{data["content_hash"]}`. No normalisation. Byte-level BPE learned from the training documents.

## Recipe

`{manifest.command}` ({tokens_seen}). One piece of one document per row, from BOS, cut at {shape.context_size} tokens at a
place drawn anew each pass; documents never see each other. Muon (learning rate {config.schedule.lr:g}, weight decay \
{config.weight_decay:g}) for the blocks' matrices, Adam (learning rate {config.schedule.lr * config.adam_lr_scale:g}) for \
embeddings and norms; constant, then {config.schedule.decay} decay to zero over the last {config.schedule.decay_share:.0%}; \
gradient norm clipped at {config.clip_norm:g}; float32.
Seed {manifest.seed}; begun {manifest.created_utc}; {machine["processor"]}, {machine["threads"]} threads\
{", " + machine["accelerator"] if "accelerator" in machine else ""}; torch {manifest.versions["torch"]}, transformers \
{manifest.versions["transformers"]}; commit `{manifest.commit}`."""


def _scores(config: PretrainConfig, evaluation: Mapping[str, Any]) -> str:
    rows: list[Sequence[str]] = [("this model", f"**{evaluation['bits_per_byte']['heldout']:.4f}**")]
    rows += [(_BASELINES[name], f"{bits:.4f}") for name, bits in evaluation["baselines"].items()]
    if evaluation["peer"] is not None:
        peer = f"{evaluation['peer']['name']} (may have been trained on these documents; double line breaks made single)"
        rows.append((peer, f"{evaluation['peer']['bits_per_byte']:.4f}"))
    rows.append(("this model on as many training documents", f"{evaluation['bits_per_byte']['train']:.4f}"))
    return (
        _table(("", "bits per byte"), rows)
        + f"\n\nEvery held-out document whole, from BOS to the end-of-story token, which is scored too, over its length in "
        f"UTF-8; documents longer than {config.architecture.context_size} tokens through windows that advance by half a "
        "context. The n-gram models read the same tokens of the same training documents."
    )


def _curve(metrics: Path) -> str:
    looks = [row for line in metrics.read_text().splitlines() if "heldout_bits_per_byte" in (row := json.loads(line))]
    n_rows = max(1, len(looks) // 12)
    kept = [row for i, row in enumerate(looks) if i % n_rows == 0 or i == len(looks) - 1]
    rows = [
        (
            f"{row['step']:,}",
            f"{row['n_tokens']:,}",
            f"{row['lr']:.2g}",
            f"{row['train_bits_per_byte']:.4f}",
            f"{row['heldout_bits_per_byte']:.4f}",
        )
        for row in kept
    ]
    header = ("step", "tokens", "learning rate", "train, bits per byte", "held out, bits per byte")
    return f"{_table(header, rows)}\n\nA fixed part of the documents of each side; float32 weights."


def _overlaps(manifest: RunManifest, evaluation: Mapping[str, Any]) -> str:
    found = {"held-out documents (other people's text)": evaluation["heldout_overlap"]}
    found["1,000 samples"] = evaluation["sample_overlap"]
    if "corpus" in manifest.results:
        found["the corpus that this model wrote"] = manifest.results["corpus"]["overlap"]
    rows = [
        (name, f"{o['n_documents']:,}", f"{o['document_share']:.1%}", f"{o['ngram_share']:.2%}") for name, o in found.items()
    ]
    header = ("text", "documents", "documents with a shared 13-gram", "shared 13-grams")
    return f"{_table(header, rows)}\n\nRuns of 13 words, case and punctuation aside, that also stand in a training document."


def _samples(config: PretrainConfig, samples: Sequence[str]) -> str:
    quoted = [
        f"{i}. " + "\n   ".join(line for line in sample.splitlines() if line.strip()) for i, sample in enumerate(samples, 1)
    ]
    return f"Temperature 1, seed {config.seed}, in order, not chosen.\n\n" + "\n\n".join(quoted)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
