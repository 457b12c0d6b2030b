"""The model card, written from what the run recorded."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from interp.pretraining.config import PretrainConfig
from interp.pretraining.evaluation import MODEL
from interp.runs import RunManifest

_NAMES = {
    MODEL: "**this model**",
    "unigram": "unigram",
    "bigram": "bigram, modified Kneser-Ney",
    "kneser_ney_5": "5-gram, modified Kneser-Ney",
}

_LICENCE = """\
The weights, the tokenizer and the corpus that the model wrote were made by this repository's recipe and are offered
under its licence (MIT). The text they were learned from has the licence named under Data and is not part of the
repository."""


def model_card(config: PretrainConfig, manifest: RunManifest, evaluation: Mapping[str, Any], metrics: Path) -> str:
    """Data, recipe, loss, baselines, samples and licence of a finished run, as Markdown."""
    sections = {
        "A small language model": _model(config, manifest, evaluation),
        "Data": _data(config, manifest),
        "Recipe": _recipe(config, manifest),
        "Bits per byte on held-out documents": _scores(config, evaluation),
        "While training": _curve(metrics),
        "What it repeats word for word": _overlaps(manifest, evaluation),
        "The first ten samples": _samples(config, evaluation["samples"]),
        "Licence": _LICENCE,
    }
    blocks = [f"{'##' if i else '#'} {title}\n\n{text}\n" for i, (title, text) in enumerate(sections.items())]
    return "\n".join(blocks)


def _model(config: PretrainConfig, manifest: RunManifest, evaluation: Mapping[str, Any]) -> str:
    shape = config.architecture
    return _lines(
        f"A Llama of {manifest.results['n_parameters']:,} parameters: {shape.n_layers} layers, width {shape.d_model},",
        f"{shape.n_heads} heads, gated MLP of {shape.d_mlp}, context {shape.context_size}, embeddings tied to the",
        f"unembedding. It needs {evaluation['heldout'][MODEL]:.3f} bits per byte of held-out text.",
        "Weights are in half precision on disk; load them as float32 on a CPU.",
        "`<|bos|>` begins a document and, as EOS, ends it; `<|pad|>` goes on the right.",
    )


def _data(config: PretrainConfig, manifest: RunManifest) -> str:
    split, n_bytes = manifest.data["split"], manifest.data["bytes"]
    return _lines(
        config.data_note or config.dataset,
        f"{split['train']:,} documents ({n_bytes['train']:,} bytes) to train on, {split['heldout']:,}",
        f"({n_bytes['heldout']:,} bytes) held out by the BLAKE2 hash of their text: none stands on both sides.",
        f"SHA-256 of the data: `{manifest.data['content_hash']}`. Text is taken as it is, without normalisation.",
        "The byte-level BPE was learned from the training documents.",
    )


def _recipe(config: PretrainConfig, manifest: RunManifest) -> str:
    schedule, machine, versions = config.schedule, manifest.hardware, manifest.versions
    accelerator = f", {machine['accelerator']}" if "accelerator" in machine else ""
    return _lines(
        f"`{manifest.command}`: {config.n_steps:,} steps of at most {config.batch_tokens:,} tokens.",
        "A row is one piece of one document, of at most one context, cut at a place drawn anew in each pass;",
        "documents never see each other.",
        f"Muon (learning rate {schedule.lr:g}, weight decay {config.weight_decay:g}) for the blocks' matrices, Adam",
        f"(learning rate {schedule.lr * config.adam_lr_scale:g}) for embeddings and norms. The rate is constant, then",
        f"falls to zero ({schedule.decay}) over the last {schedule.decay_share:.0%} of the steps.",
        f"Gradient norm clipped at {config.clip_norm:g}; float32.",
        *([_length_changed(manifest.results["length_changed"])] if "length_changed" in manifest.results else []),
        f"Seed {manifest.seed}; begun {manifest.created_utc} on {machine['processor']}{accelerator},",
        f"{machine['threads']} thread(s); torch {versions['torch']}, transformers {versions['transformers']};",
        f"commit `{manifest.commit}`.",
    )


def _length_changed(change: Mapping[str, int]) -> str:
    return (
        f"The run was begun with {change['from']:,} tokens and set to {change['to']:,}"
        f" after step {change['at_step']:,},\n"
        "before the decay, so that every step is that of a run of the latter length."
    )


def _scores(config: PretrainConfig, evaluation: Mapping[str, Any]) -> str:
    unshared = evaluation["heldout_unshared"]
    rows = [
        (_NAMES.get(name, f"{name} (*)"), f"{bits:.4f}", f"{unshared[name]:.4f}" if unshared else "")
        for name, bits in evaluation["heldout"].items()
    ]
    rows.append(("this model on as many documents that it was trained on", f"{evaluation['train'][MODEL]:.4f}", ""))
    n_all, n_unshared = evaluation["heldout_overlap"]["n_documents"], evaluation["n_unshared"]
    header = ("bits per byte", f"all {n_all:,}", f"the {n_unshared:,} that share no 13-gram with the training text")
    peer = "(*) May have been trained on these documents; double line breaks made single for it."
    return _lines(
        _table(header, rows),
        "",
        *([peer] if evaluation["peer"] is not None else []),
        "Every document whole, from BOS to the end-of-story token, which is scored too, over its length in UTF-8.",
        f"Documents longer than {config.architecture.context_size} tokens pass through windows that advance by half a",
        "context. The n-gram models read the same tokens of the same training documents.",
    )


def _curve(metrics: Path) -> str:
    rows = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    looks = [row for row in rows if "heldout_bits_per_byte" in row]
    every = max(1, len(looks) // 12)
    shown = [row for i, row in enumerate(looks) if (len(looks) - 1 - i) % every == 0]
    header = ("step", "tokens", "learning rate", "train, bits per byte", "held out, bits per byte")
    cells = [
        (
            f"{row['step']:,}",
            f"{row['n_tokens']:,}",
            f"{row['lr']:.2g}",
            f"{row['train_bits_per_byte']:.4f}",
            f"{row['heldout_bits_per_byte']:.4f}",
        )
        for row in shown
    ]
    return f"{_table(header, cells)}\n\nOn a fixed part of the documents of each side, with float32 weights."


def _overlaps(manifest: RunManifest, evaluation: Mapping[str, Any]) -> str:
    found = {
        "held-out documents, which it did not write": evaluation["heldout_overlap"],
        "samples": evaluation["sample_overlap"],
    }
    corpus = manifest.results.get("corpus")
    if corpus is not None:
        found[f"the corpus it wrote ({corpus['n_bytes']:,} bytes, seed {manifest.seed + 1})"] = corpus["overlap"]
    header = ("text", "documents", "of them with a shared 13-gram", "13-grams", "of them shared")
    rows = [
        (
            name,
            f"{overlap['n_documents']:,}",
            f"{overlap['document_share']:.1%}",
            f"{overlap['n_ngrams']:,}",
            f"{overlap['ngram_share']:.2%}",
        )
        for name, overlap in found.items()
    ]
    note = "Runs of 13 words, case and punctuation aside, that also stand in a training document. Temperature 1."
    return f"{_table(header, rows)}\n\n{note}"


def _samples(config: PretrainConfig, samples: Sequence[str]) -> str:
    quoted = ["\n".join(f"> {line}".rstrip() for line in sample.splitlines()) for sample in samples]
    numbered = [f"{i}.\n\n{quote}" for i, quote in enumerate(quoted, start=1)]
    return f"Temperature 1, seed {config.seed}, in order, not chosen.\n\n" + "\n\n".join(numbered)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _lines(*lines: str) -> str:
    return "\n".join(lines)
