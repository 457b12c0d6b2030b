"""A pretrained model beside its baselines, all on the same held-out documents, in bits per byte."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from interp.errors import DataError
from interp.models import Model, load_model
from interp.pretraining.config import PretrainConfig
from interp.pretraining.ngrams import KneserNey
from interp.pretraining.overlap import VerbatimOverlap, verbatim_overlap
from interp.pretraining.sampling import iter_samples
from interp.pretraining.scoring import bits_per_byte, total_nats
from interp.pretraining.texts import SplitTexts, expand_variables
from interp.pretraining.tokenizer import encode_documents

NGRAMS = {"unigram": 1, "bigram": 2, "kneser_ney_5": 5}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What is said of a finished language model.

    Units: bits_per_byte counts UTF-8 bytes, with the end-of-story token scored too; `train` is as many training
    documents as there are held-out ones.
    """

    bits_per_byte: dict[str, float]
    baselines: dict[str, float]
    peer: dict[str, str | float] | None
    heldout_overlap: VerbatimOverlap
    sample_overlap: VerbatimOverlap
    samples: list[str]


def evaluate(config: PretrainConfig, texts: SplitTexts, folder: Path) -> Evaluation:
    """Score the model as it stands on disk, so in half-precision weights, computed in float32."""
    model = load_model(str(folder), device=config.device)
    samples = list(iter_samples(model, config.sample_documents, seed=config.seed))
    return Evaluation(
        bits_per_byte={
            "heldout": score(model, texts.heldout),
            "train": score(model, texts.train[: len(texts.heldout)]),
        },
        baselines=_baselines(model, texts),
        peer=_peer(config, texts.heldout),
        heldout_overlap=verbatim_overlap(texts.heldout, texts.train),
        sample_overlap=verbatim_overlap(samples, texts.train),
        samples=samples[:10],
    )


def score(model: Model, texts: Sequence[str]) -> float:
    """Bits per byte of whole documents, each from BOS to the end-of-story token."""
    nats = total_nats(
        lambda token_ids: model.hf(token_ids, use_cache=False).logits,
        encode_documents(model.tokenizer, texts),
        context_size=model.context_size,
        pad_token_id=model.tokenizer.pad_token_id or 0,
        device=model.device,
    )
    return bits_per_byte(nats, texts)


def _baselines(model: Model, texts: SplitTexts) -> dict[str, float]:
    train = encode_documents(model.tokenizer, texts.train)
    heldout = encode_documents(model.tokenizer, texts.heldout)
    return {
        name: bits_per_byte(KneserNey(train, order=order, vocab_size=model.d_vocab).nats(heldout), texts.heldout)
        for name, order in NGRAMS.items()
    }


def peer_folder(config: PretrainConfig) -> Path | None:
    """Where the model to compare with is.

    Raises: DataError if it was named and is not there.
    """
    if config.peer is None:
        return None
    folder = Path(expand_variables(config.peer))
    if not folder.is_dir():
        raise DataError(f"peer: {folder} is no folder; give a folder with a model, or leave peer out")
    return folder


def _peer(config: PretrainConfig, heldout: Sequence[str]) -> dict[str, str | float] | None:
    folder = peer_folder(config)
    if folder is None:
        return None
    # stories260K has seen single line breaks only.
    single = [text.replace("\n\n", "\n") for text in heldout]
    model = load_model(str(folder), device=config.device)
    return {"name": folder.name, "bits_per_byte": score(model, single)}
