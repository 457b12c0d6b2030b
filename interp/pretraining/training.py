"""`interp pretrain`: from text to a run folder with a language model. Composes the parts; holds no mathematics."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from interp.checkpoints import TrainState, latest_checkpoint, load_checkpoint
from interp.errors import ArtifactError, ConfigError
from interp.fitting import fit_in_folder
from interp.loop import StepDone
from interp.models import load_model, resolve_device
from interp.overlap import verbatim_overlap
from interp.pretraining.card import model_card
from interp.pretraining.config import PretrainConfig
from interp.pretraining.evaluation import evaluate, peer_folder
from interp.pretraining.rows import DocumentRows
from interp.pretraining.sampling import iter_samples, write_corpus
from interp.pretraining.scoring import bits_per_byte, total_nats
from interp.pretraining.task import NextToken
from interp.pretraining.texts import SplitTexts, read_texts
from interp.pretraining.tokenizer import PAD_ID, encode_documents, learn_tokenizer
from interp.recording import ProgressLines, Row
from interp.runs import RunFolder, RunManifest
from interp.storage import new_folder, read_json, told, write_json, write_text

# May differ between a run and its continuation: none of them changes what is computed.
_FREE_ON_RESUME = (
    "dataset",
    "data_note",
    "out",
    "evaluate_every",
    "evaluate_documents",
    "peer",
    "sample_documents",
    "corpus_documents",
    "recording.log_every",
    "recording.checkpoint_every",
    "recording.keep_checkpoints",
)


@dataclass(frozen=True, slots=True)
class PretrainFolder:
    """What a pretraining run leaves in its run folder."""

    run: RunFolder

    @property
    def model(self) -> Path:
        return self.run.path / "model"

    @property
    def corpus(self) -> Path:
        return self.run.path / "corpus.jsonl.gz"

    @property
    def card(self) -> Path:
        return self.run.path / "MODEL_CARD.md"


def pretrain(config: PretrainConfig, *, resume: bool = False) -> RunFolder:
    """Train a language model, score it, let it write a corpus, describe it. `resume` does what is not done yet.

    A resumed training is bit-exact. Its length may be changed as long as no finished step would have had another
    learning rate, which is so before the decay begins.

    Raises: any InterpError; whatever was finished or checkpointed before it stays usable.
    """
    run = RunFolder(config.out)
    goes_on = resume and run.manifest_path.exists()
    if goes_on:
        length = () if PretrainFolder(run).model.exists() else ("tokens",)
        run.check_same_config(config, may_differ=(*_FREE_ON_RESUME, *length))
    peer_folder(config)  # An error now rather than after an hour of training.
    texts = read_texts(config)
    if goes_on:
        _check_same_text(run, texts)
    else:
        run = RunFolder.begin(config.out, config, RunManifest.begin("pretrain", seed=config.seed, data=texts.facts))
    folder = PretrainFolder(run)
    if not folder.model.exists():
        _train(config, folder, texts, goes_on=goes_on)
    if not run.evaluation_path.exists():
        write_json(run.evaluation_path, asdict(evaluate(config, texts, folder.model)))
    if config.corpus_documents and not folder.corpus.exists():
        _write_corpus(config, folder, texts)
    manifest = run.manifest().model_copy(update={"status": "finished"})
    run.write_manifest(manifest)
    write_text(folder.card, model_card(config, manifest, read_json(run.evaluation_path), run.metrics_path))
    return run


def _check_same_text(run: RunFolder, texts: SplitTexts) -> None:
    was = run.manifest().data.get("content_hash")
    if was != texts.content_hash:
        raise ArtifactError(
            f"{run.path}: the text has changed since the run was started ({str(was)[:12]}… then, "
            f"{texts.content_hash[:12]}… now); restore it or start anew"
        )


def _train(config: PretrainConfig, folder: PretrainFolder, texts: SplitTexts, *, goes_on: bool) -> None:
    device = resolve_device(config.device)
    architecture = config.architecture
    tokenizer = learn_tokenizer(texts.train, vocab_size=architecture.vocab_size, context_size=architecture.context_size)
    # A short text may hold fewer merges than were asked for.
    architecture = architecture.model_copy(update={"vocab_size": len(tokenizer)})
    task = NextToken(architecture, seed=config.seed).to(device)
    batches = DocumentRows(
        encode_documents(tokenizer, texts.train),
        context_size=architecture.context_size,
        batch_tokens=config.batch_tokens,
        pad_token_id=PAD_ID,
        seed=config.seed,
        device=device,
    )
    checkpoint = latest_checkpoint(folder.run.checkpoints) if goes_on else None
    state = load_checkpoint(checkpoint) if checkpoint is not None else None
    if goes_on:
        _take_over_length(folder.run, config, state.step if state else 0)
    _fit(config, folder.run, task, batches, _Looks.of(config, texts, tokenizer), state)
    _save_model(folder, task, tokenizer)


def _take_over_length(run: RunFolder, config: PretrainConfig, finished: int) -> None:
    old = run.config(PretrainConfig)
    changed = next((step for step in range(finished) if old.lr(step) != config.lr(step)), None)
    if changed is not None or finished > config.n_steps:
        raise ConfigError(
            f"tokens: got {config.tokens}; the run was started with {old.tokens} and its {finished} finished steps "
            "would have had other learning rates; resume with the same length or start anew"
        )
    write_text(run.config_path, config.to_yaml())
    if config.tokens != old.tokens:
        _add_results(run, {"length_changed": {"from": old.tokens, "to": config.tokens, "at_step": finished}})


@dataclass(frozen=True, slots=True)
class _Looks:
    """The documents on which bits per byte are followed while training."""

    config: PretrainConfig
    texts: dict[str, Sequence[str]]
    documents: dict[str, list[list[int]]]

    @classmethod
    def of(cls, config: PretrainConfig, texts: SplitTexts, tokenizer: PreTrainedTokenizerFast) -> "_Looks":
        n = config.evaluate_documents
        chosen = {"heldout": texts.heldout[:n], "train": texts.train[:n]}
        return cls(config, chosen, {name: encode_documents(tokenizer, some) for name, some in chosen.items()})

    def at(self, task: NextToken, done: StepDone) -> Row:
        if done.step % self.config.evaluate_every and done.step != self.config.n_steps:
            return {}
        device, size = task.body.device, self.config.architecture.context_size
        row: Row = {}
        for name, documents in self.documents.items():
            nats = total_nats(task.logits, documents, context_size=size, pad_token_id=PAD_ID, device=device)
            row[f"{name}_bits_per_byte"] = bits_per_byte(nats, self.texts[name])
        return row


def _fit(
    config: PretrainConfig,
    run: RunFolder,
    task: NextToken,
    batches: DocumentRows,
    looks: _Looks,
    state: TrainState | None,
) -> None:
    optimiser = task.optimiser(
        lr=config.schedule.lr, adam_lr_scale=config.adam_lr_scale, weight_decay=config.weight_decay
    )
    fit_in_folder(
        run,
        task,
        optimiser,
        batches,
        label="pretrain",
        schedule=config.schedule,
        n_steps=config.n_steps,
        clip_norm=config.clip_norm,
        recording=config.recording,
        state=state,
        more=lambda done: looks.at(task, done),
    )


def _save_model(folder: PretrainFolder, task: NextToken, tokenizer: PreTrainedTokenizerFast) -> None:
    with new_folder(folder.model) as temporary, told(temporary):
        task.export().save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        for file in temporary.iterdir():
            file.chmod(0o644)
    _add_results(folder.run, {"n_parameters": sum(p.numel() for p in task.parameters())})


def _write_corpus(config: PretrainConfig, folder: PretrainFolder, texts: SplitTexts) -> None:
    model = load_model(str(folder.model), device=config.device)
    # Not the seed of the evaluation's samples: the corpus is other text.
    written: list[str] = []
    with ProgressLines("corpus", config.corpus_documents) as progress:
        for text in iter_samples(model, config.corpus_documents, seed=config.seed + 1):
            written.append(text)
            progress.show(len(written))
    write_corpus(folder.corpus, written)
    overlap = asdict(verbatim_overlap(written, texts.train))
    n_bytes = sum(len(text.encode()) for text in written)
    _add_results(folder.run, {"corpus": {"n_documents": len(written), "n_bytes": n_bytes, "overlap": overlap}})


def _add_results(run: RunFolder, results: dict[str, object]) -> None:
    manifest = run.manifest()
    run.write_manifest(manifest.model_copy(update={"results": manifest.results | results}))
