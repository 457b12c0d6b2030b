"""`interp report`: measure what is missing in a run folder, then write its page."""

from pathlib import Path

import numpy as np
import torch

from dashboards.decoder_layout import decoder_layout
from dashboards.layout_file import LAYOUT_FILE, save_layout
from dashboards.page import write_report
from dashboards.tokens import VOCABULARY_FILE, save_token_texts, token_texts
from interp.recording import progress_of_stages
from interp.runs import RunFolder
from interp.storage import make_folder
from saes.evaluate_run import write_evaluation
from saes.feature_files import load_features
from saes.features import FeatureSettings, FeatureStatistics, write_features
from saes.io import load_sae
from saes.run_parts import RunParts, open_run


def report_run(
    path: Path | str,
    *,
    out: Path | None = None,
    n_tokens: int = 200_000,
    evaluation_tokens: int = 100_000,
    model_name: str | None = None,
    device: str = "auto",
) -> Path:
    """Write the report of a run and give its path; evaluation and features are computed if they are not there.

    Raises: ArtifactError if the run cannot be opened; StorageError if the page cannot be written.
    """
    run = RunFolder.open(path)
    if out is not None:
        make_folder(out.parent)
    missing_features = not (run.features / "features.json").exists()
    # An interrupted pass may have left the features without their tokens' texts.
    missing_texts = not (run.features / VOCABULARY_FILE).exists()
    if missing_features or missing_texts or not run.evaluation_path.exists():
        parts = open_run(path, model_name=model_name, device=device)
        if not run.evaluation_path.exists():
            write_evaluation(parts, n_tokens=evaluation_tokens)
        if missing_features:
            describe_features(parts, FeatureSettings(n_tokens=n_tokens))
        elif missing_texts:
            save_token_texts(run.features, parts.model.tokenizer)
    add_layout(run)
    return write_report(path, out)


def add_layout(run: RunFolder) -> None:
    """Compute the decoder's map where it is missing and the run has its SAE.

    Raises: ArtifactError if the SAE or the feature statistics are damaged.
    """
    if (run.features / LAYOUT_FILE).exists() or not run.sae.is_dir():
        return
    sae, density = load_sae(run.sae, device="cpu"), load_features(run.features).density
    alive = torch.from_numpy(np.flatnonzero(density > 0))
    save_layout(run.features, decoder_layout(sae.directions(torch.arange(sae.d_sae)), alive))


def describe_features(parts: RunParts, settings: FeatureSettings, *, dataset: str | None = None) -> FeatureStatistics:
    """One pass over the run's training text, or over another data set: everything about every feature, into the run.

    The same call after an interruption goes on where it stopped.
    """
    texts = token_texts(parts.model.tokenizer)
    stream = parts.stream("train" if dataset is None else "all", dataset=dataset)
    with progress_of_stages() as tell:
        statistics = write_features(
            parts.model, parts.sae, stream, parts.run.features, settings,
            facts=parts.facts, token_texts=texts, on_progress=tell,
        )  # fmt: skip
    save_token_texts(parts.run.features, parts.model.tokenizer)
    return statistics
