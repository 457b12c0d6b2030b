"""`interp pretrain`: from text to a run folder with a language model. Composes the parts; holds no mathematics."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from interp.checkpoints import TrainState, latest_checkpoint, load_checkpoint, restore_state, save_checkpoint, take_state
from interp.errors import ArtifactError
from interp.loop import StepDone, fit
from interp.models import resolve_device
from interp.pretraining.config import PretrainConfig
from interp.pretraining.rows import DocumentRows
from interp.pretraining.scoring import bits_per_byte, total_nats
from interp.pretraining.task import NextToken
from interp.pretraining.texts import SplitTexts, read_texts
from interp.pretraining.tokenizer import PAD_ID, encode_documents, learn_tokenizer
from interp.recording import MetricsFile, Row, record
from interp.runs import RunFolder, RunManifest
from interp.storage import new_folder, told

# May differ between a run and its continuation: none of them changes what is computed.
_FREE_ON_RESUME = (
    "dataset",
    "out",
    "evaluate_every",
    "evaluate_documents",
    "recording.log_every",
    "recording.checkpoint_every",
    "recording.keep_checkpoints",
)


def model_folder(run: RunFolder) -> Path:
    """Where a pretraining run leaves its model, in Hugging Face layout."""
    return run.path / "model"


def pretrain(config: PretrainConfig, *, resume: bool = False) -> RunFolder:
    """Train a language model and save it under out/model; `resume` goes on from the last checkpoint, bit for bit.

    Raises: any InterpError; whatever was checkpointed before it stays usable.
    """
    run = RunFolder(config.out)
    goes_on = resume and run.manifest_path.exists()
    if goes_on:
        run.check_same_config(config, may_differ=_FREE_ON_RESUME)
        if run.manifest().status == "finished":
            return run
    device = resolve_device(config.device)
    texts = read_texts(config)
    if goes_on:
        _check_same_text(run, texts)
    else:
        run = RunFolder.begin(config.out, config, RunManifest.begin("pretrain", seed=config.seed, data=texts.facts))
    tokenizer = learn_tokenizer(
        texts.train, vocab_size=config.architecture.vocab_size, context_size=config.architecture.context_size
    )
    task = NextToken(config.architecture.model_copy(update={"vocab_size": len(tokenizer)}), seed=config.seed).to(device)
    batches = DocumentRows(
        encode_documents(tokenizer, texts.train),
        context_size=config.architecture.context_size,
        batch_tokens=config.batch_tokens,
        pad_token_id=PAD_ID,
        seed=config.seed,
        device=device,
    )
    looks = _Looks.of(config, texts, tokenizer)
    _run(config, run, task, batches, looks, goes_on=goes_on)
    _finish(run, task, tokenizer)
    return run


def _check_same_text(run: RunFolder, texts: SplitTexts) -> None:
    was = run.manifest().data.get("content_hash")
    if was != texts.content_hash:
        raise ArtifactError(
            f"{run.path}: the text has changed since the run was started ({str(was)[:12]}… then, "
            f"{texts.content_hash[:12]}… now); restore it or start anew"
        )


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
        device = task.body.device
        size = self.config.architecture.context_size
        row: Row = {}
        for name, documents in self.documents.items():
            nats = total_nats(task.logits, documents, context_size=size, pad_token_id=PAD_ID, device=device)
            row[f"{name}_bits_per_byte"] = bits_per_byte(nats, self.texts[name])
        return row


def _run(
    config: PretrainConfig, run: RunFolder, task: NextToken, batches: DocumentRows, looks: _Looks, *, goes_on: bool
) -> None:
    optimiser = task.optimiser(
        lr=config.schedule.lr, adam_lr_scale=config.adam_lr_scale, weight_decay=config.weight_decay
    )
    checkpoint = latest_checkpoint(run.checkpoints) if goes_on else None
    state: TrainState | None = None
    if checkpoint is not None:
        state = load_checkpoint(checkpoint)
        restore_state(state, task, optimiser, batches)
    start_step, start_tokens, offset = (state.step, state.n_tokens, state.metrics_offset) if state else (0, 0, 0)
    metrics = MetricsFile(run.metrics_path, offset=offset)
    steps = fit(
        task,
        optimiser,
        batches,
        schedule=config.schedule,
        n_steps=config.n_steps,
        clip_norm=config.clip_norm,
        start_step=start_step,
        start_tokens=start_tokens,
    )

    def save(done: StepDone) -> None:
        now = take_state(task, optimiser, batches, step=done.step, n_tokens=done.n_tokens, metrics_offset=metrics.sync())
        save_checkpoint(run.checkpoints, now, keep=config.recording.keep_checkpoints)

    try:
        record(
            steps,
            metrics,
            label="pretrain",
            n_steps=config.n_steps,
            recording=config.recording,
            save=save,
            start=start_step,
            more=lambda done: looks.at(task, done),
        )
    finally:
        metrics.close()


def _finish(run: RunFolder, task: NextToken, tokenizer: PreTrainedTokenizerFast) -> None:
    with new_folder(model_folder(run)) as folder, told(folder):
        task.export().save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    manifest = run.manifest()
    n_parameters = sum(p.numel() for p in task.parameters())
    results = manifest.results | {"n_parameters": n_parameters}
    run.write_manifest(manifest.model_copy(update={"status": "finished", "results": results}))
