"""`interp report`: measure what is missing in a run folder, then write its page."""

from pathlib import Path

from dashboards.page import write_report
from dashboards.tokens import save_token_texts
from interp.recording import ProgressLines
from interp.runs import RunFolder
from interp.storage import make_folder, write_json
from saes.evaluate_run import evaluate_parts
from saes.features import collect_features, save_features
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
    if missing_features or not run.evaluation_path.exists():
        parts = open_run(path, model_name=model_name, device=device)
        if not run.evaluation_path.exists():
            result = evaluate_parts(parts, n_tokens=evaluation_tokens)
            write_json(run.evaluation_path, result.to_json())
        if missing_features:
            describe_features(parts, n_tokens=n_tokens)
    return write_report(path, out)


def describe_features(parts: RunParts, *, n_tokens: int) -> None:
    """One pass over training text: statistics and examples of every feature, into the run folder."""
    with ProgressLines("features", n_tokens) as progress:

        def on_progress(_what: str, done: int, total: int) -> None:
            progress.show(min(done, total))

        statistics = collect_features(
            parts.model, parts.sae, parts.stream("train"), n_tokens=n_tokens, facts=parts.facts, on_progress=on_progress
        )
    save_features(parts.run.features, statistics)
    save_token_texts(parts.run.features, parts.model.tokenizer)
