"""`interp codebook train`: from a config to a run folder with a finetuned model and its codebooks."""

import copy
from collections.abc import Iterator
from typing import Any

import torch

from interp.checkpoints import latest_checkpoint, load_checkpoint
from interp.codebooks.batches import LanguageBatch, StreamBatches
from interp.codebooks.config import CodebookConfig
from interp.codebooks.evaluation import score_language
from interp.codebooks.files import CodebookFolder, save_codebooks
from interp.codebooks.initial import start_at_clusters
from interp.codebooks.insertion import Codebooks, Insertion, new_codebooks, site_hooks
from interp.codebooks.task import CodebookTask
from interp.datasets import TokenStream, open_stream
from interp.errors import DataError
from interp.fitting import fit_in_folder
from interp.loop import BatchSource
from interp.models import Model, load_model, wrap_model
from interp.runs import RunFolder, RunManifest
from interp.token_rows import TokenBatch

# May differ between a run and its continuation: none of them changes what is computed in training.
FREE_ON_RESUME = (
    "out",
    "evaluation_tokens",
    "recording.log_every",
    "recording.checkpoint_every",
    "recording.keep_checkpoints",
)

_CODES = 1_000_003


def train_codebooks(config: CodebookConfig, *, resume: bool = False) -> CodebookFolder:
    """Finetune a model with codebooks inside, save both, score them on held-out text.

    `resume` goes on from the last checkpoint, bit for bit; the base model is only read.

    Raises: any InterpError; whatever was checkpointed before it stays usable.
    """
    run = RunFolder(config.out)
    goes_on = run.goes_on(config, resume=resume, may_differ=FREE_ON_RESUME)
    if goes_on and run.manifest().status == "finished":
        return CodebookFolder.open(config.out)
    model = load_model(config.model, device=config.device)
    stream = open_stream(config.dataset, model, config.data)
    heldout = stream.with_split(config.data.judged_split)
    # Before a run folder is begun: a mistake would otherwise block the command that mends it.
    site_hooks(model, config.at, config.layers)
    for text in (stream, heldout):
        _check_predicts(text)
    if goes_on:
        run.check_same_inputs(model=model.facts, data=stream.facts)
    else:
        run = RunFolder.begin(config.out, config, codebook_manifest(config, model, stream))
    tuned = fresh_model(model, config.seed) if config.from_scratch else model
    batches = StreamBatches(stream, model.device)
    codebooks = prepare_codebooks(config, tuned, stream.iter_pass())
    folder = fit_codebooks(config, CodebookFolder(run), tuned, codebooks, batches)
    with Insertion(tuned, codebooks):
        scores = score_language(tuned, heldout.iter_pass(), n_tokens=config.evaluation_tokens, split=heldout.split)
    scores.save(run.evaluation_path)
    run.write_manifest(run.manifest().model_copy(update={"status": "finished"}))
    return folder


def _check_predicts(text: TokenStream) -> None:
    """Raises: DataError if a split holds no text, or only documents of one token."""
    if not any(LanguageBatch.of(batch).n_tokens for batch in text.iter_pass()):
        raise DataError(
            f"{text.documents.name}: got no token to predict in the {text.split} split; give more documents, or "
            "another --data.heldout-share (0 scores on the text of training)"
        )


def codebook_manifest(config: CodebookConfig, model: Model, stream: TokenStream) -> RunManifest:
    """Where a run that begins now comes from."""
    return RunManifest.begin("codebook", seed=config.seed, model=model.facts, data=stream.facts)


def fresh_model(model: Model, seed: int) -> Model:
    """The same architecture with random weights."""
    torch.manual_seed(seed)
    architecture: Any = type(model.hf)
    hf = architecture(copy.deepcopy(model.hf.config)).to(model.device)
    return wrap_model(hf, model.tokenizer, name=f"{model.name}, from scratch")


def prepare_codebooks(config: CodebookConfig, model: Model, batches: Iterator[TokenBatch]) -> Codebooks:
    """The codebooks that a run begins with.

    Raises: ConfigError for layers that the model lacks; ModelError for an encoder.
    """
    hooks = site_hooks(model, config.at, config.layers)
    # Weights from scratch were drawn from the seed itself: codes must not be the same numbers over again.
    torch.manual_seed(config.seed + (_CODES if config.from_scratch else 0))
    codebooks = new_codebooks(model, hooks, n_codes=config.n_codes, k=config.k, combine=config.combine)
    if config.initial != "normal" and hooks:
        sample, scaled = _enough(batches, config.initial_tokens), config.initial == "kmeans_scaled"
        start_at_clusters(model, codebooks, sample, seed=config.seed, scaled=scaled)
    return codebooks


def _enough(batches: Iterator[TokenBatch], n_tokens: int) -> Iterator[TokenBatch]:
    n = 0
    for batch in batches:
        yield batch
        n += batch.n_kept
        if n >= n_tokens:
            return


def fit_codebooks(
    config: CodebookConfig, folder: CodebookFolder, model: Model, codebooks: Codebooks, batches: BatchSource
) -> CodebookFolder:
    """Train in the run folder from its last checkpoint, if there is one, and save what came of it.

    The model and the codebooks given are changed; nothing stays inserted.
    """
    run = folder.run
    task = CodebookTask(
        model, codebooks, reconstruction=config.reconstruction, replace_dead_every=config.replace_dead_every
    )
    found = latest_checkpoint(run.checkpoints) if run.checkpoints.exists() else None
    try:
        fit_in_folder(
            run,
            task,
            task.optimiser(config.schedule.lr, config.optimiser),
            batches,
            label="codebooks" if codebooks.hooks else "finetune",
            schedule=config.schedule,
            n_steps=config.n_steps,
            clip_norm=config.clip_norm,
            recording=config.recording,
            state=load_checkpoint(found) if found is not None else None,
        )
    finally:
        task.close()
    save_codebooks(folder, model, codebooks)
    return folder
