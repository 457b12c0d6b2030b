"""A pretrained model beside its baselines, all on the same held-out documents, in bits per byte."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from interp.errors import DataError
from interp.models import Model, load_model
from interp.overlap import VerbatimOverlap, verbatim_overlap, without_overlap
from interp.pretraining.config import PretrainConfig
from interp.pretraining.ngrams import KneserNey
from interp.pretraining.sampling import iter_samples
from interp.pretraining.scoring import bits_per_byte, total_nats
from interp.pretraining.texts import SplitTexts, expand_variables
from interp.pretraining.tokenizer import encode_documents

MODEL = "model"
NGRAM_ORDERS = {"unigram": 1, "bigram": 2, "kneser_ney_5": 5}

Scorer = Callable[[Sequence[str]], float]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What is said of a finished language model, under the name "model", and of what it is compared with.

    Units: bits per byte of UTF-8, the end-of-story token scored too. heldout_unshared leaves out documents that share
    13 words in a row with a training document; train is on as many training documents as there are held-out ones.
    """

    heldout: dict[str, float]
    heldout_unshared: dict[str, float]
    train: dict[str, float]
    peer: str | None
    n_unshared: int
    heldout_overlap: VerbatimOverlap
    sample_overlap: VerbatimOverlap
    samples: list[str]


def evaluate(config: PretrainConfig, texts: SplitTexts, folder: Path) -> Evaluation:
    """Score the model as it stands on disk, so in half-precision weights, computed in float32."""
    model = load_model(str(folder), device=config.device)
    peer = peer_folder(config)
    scorers: dict[str, Scorer] = {MODEL: partial(score, model), **_ngram_scorers(model, texts)}
    if peer is not None:
        scorers[peer.name] = partial(_score_single_breaks, load_model(str(peer), device=config.device))
    unshared = without_overlap(texts.heldout, texts.train)
    samples = list(iter_samples(model, config.sample_documents, seed=config.seed))
    return Evaluation(
        heldout={name: scorer(texts.heldout) for name, scorer in scorers.items()},
        heldout_unshared={name: scorer(unshared) for name, scorer in scorers.items()} if unshared else {},
        train={MODEL: score(model, texts.train[: len(texts.heldout)])},
        peer=peer.name if peer is not None else None,
        n_unshared=len(unshared),
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


def _score_single_breaks(model: Model, texts: Sequence[str]) -> float:
    # stories260K has seen single line breaks only.
    return score(model, [text.replace("\n\n", "\n") for text in texts])


def _ngram_scorers(model: Model, texts: SplitTexts) -> dict[str, Scorer]:
    train = encode_documents(model.tokenizer, texts.train)

    def score_ngrams(ngrams: KneserNey, some: Sequence[str]) -> float:
        return bits_per_byte(ngrams.nats(encode_documents(model.tokenizer, some)), some)

    return {
        name: partial(score_ngrams, KneserNey(train, order=order, vocab_size=model.d_vocab))
        for name, order in NGRAM_ORDERS.items()
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
