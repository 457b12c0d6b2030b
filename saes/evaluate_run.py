"""`interp evaluate`: a run folder -> evaluation.json in it."""

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from interp.datasets import Split, TokenStream
from interp.errors import ArtifactError, InterpError
from interp.hub_documents import former_hash
from interp.overlap import not_measured
from interp.recording import ProgressLines
from interp.runs import RunFolder
from interp.storage import read_json, write_json
from saes.evaluation import Evaluation, evaluate
from saes.run_parts import RunParts, open_run


def evaluate_run(
    path: Path | str,
    *,
    n_tokens: int = 100_000,
    dataset: str | None = None,
    split: Split = "heldout",
    model_name: str | None = None,
    device: str = "auto",
    seed: int = 0,
) -> Evaluation:
    """Evaluate a run's SAE and write the result beside it.

    Raises: ArtifactError if the run cannot be opened; DataError if the split holds no usable token.
    """
    parts = open_run(path, model_name=model_name, device=device)
    return write_evaluation(parts, n_tokens=n_tokens, dataset=dataset, split=split, seed=seed)


def write_evaluation(
    parts: RunParts, *, n_tokens: int, dataset: str | None = None, split: Split = "heldout", seed: int = 0
) -> Evaluation:
    """Evaluate an opened run and write evaluation.json into its folder, the overlap with its training text included.

    Beside the figures of the run's own held-out text, those of another text get a file of their own.

    Raises: DataError if the split holds no usable token.
    """
    result = evaluate_parts(parts, n_tokens=n_tokens, dataset=dataset, split=split, seed=seed)
    result = _with_known_arms(parts.run, result)
    path = _place(parts.run, result)
    # First without the overlap, which takes reading the training text: what is measured shall not be lost to that.
    write_json(path, result.to_json())
    result = replace(result, data={**result.data, **_overlap(parts, parts.stream(split, dataset=dataset))})
    write_json(path, result.to_json())
    if path != parts.run.evaluation_path:
        own = "evaluation.json keeps the figures of the run's own held-out text"
        print(f"evaluate: written to {path}; {own}", file=sys.stderr, flush=True)
    return result


def _place(run: RunFolder, result: Evaluation) -> Path:
    """evaluation.json, unless that holds the run's own held-out text and this is of another."""
    before = _before(run)
    if before is None or _is_own(run, result) or not _is_own(run, before):
        return run.evaluation_path
    name = re.sub(r"[^A-Za-z0-9]+", "-", str(result.data.get("dataset")).rpartition("/")[2])
    split, digest = result.data.get("split", {}).get("used"), str(result.data.get("content_hash"))[:8]
    return run.path / f"evaluation_{name}_{split}_{digest}.json"


def _before(run: RunFolder) -> Evaluation | None:
    """What was measured before; None too where that cannot be read: what is measured now takes its place."""
    if not run.evaluation_path.exists():
        return None
    try:
        return Evaluation.from_json(read_json(run.evaluation_path))
    except ArtifactError:
        return None


def _is_own(run: RunFolder, result: Evaluation) -> bool:
    """Whether it was made on the part of the run's text that it was not trained on, as far as either tells."""
    own = run.manifest().data or {}
    share = own.get("split", {}).get("heldout_share")
    known = {own.get("content_hash"), former_hash(str(own.get("dataset")))}
    same = own.get("content_hash") is None or result.data.get("content_hash") in known
    return same and result.data.get("split", {}).get("used", "heldout") == ("all" if share == 0 else "heldout")


def _overlap(parts: RunParts, evaluated: TokenStream) -> dict[str, Any]:
    """How much of the text stands in the training text, or why that is not known."""
    if "imported_from" in parts.run.manifest().results:
        # The run's data set is what the SAE is looked at on, not what it was trained on.
        return {}
    try:
        return parts.stream("train").overlap(evaluated)
    except InterpError as error:
        return not_measured(str(error))


def _with_known_arms(run: RunFolder, result: Evaluation) -> Evaluation:
    """Null arms that were measured before on the same text stay beside the new figures."""
    before = _before(run)
    if before is None:
        return result
    # Facts that the earlier evaluation did not record yet do not count.
    then = {key: value for key, value in before.data.items() if key != "overlap_with_training"}
    now = {key: result.data.get(key) for key in then}
    same = (before.n_tokens, then, before.seed) == (result.n_tokens, now, result.seed)
    return replace(result, null_arms=before.null_arms) if same else result


def evaluate_parts(
    parts: RunParts, *, n_tokens: int, dataset: str | None = None, split: Split = "heldout", seed: int = 0
) -> Evaluation:
    """Evaluate an opened run, with progress on standard error."""
    stream = parts.stream(split, dataset=dataset)
    # Two passes over the sample: the first takes the mean activation.
    with ProgressLines("evaluate", 2 * n_tokens) as progress:

        def on_progress(what: str, done: int, total: int) -> None:
            first = 0 if what == "mean activation" else n_tokens
            progress.show(first + min(n_tokens, round(n_tokens * done / max(total, 1))), what)

        result = evaluate(
            parts.model, parts.sae, stream, n_tokens=n_tokens, seed=seed, facts=parts.facts, on_progress=on_progress
        )
    # A run that holds no trained SAE of a config's architecture says what it holds.
    held = parts.run.manifest().results
    wanted = _wanted_l0(parts) if dataset is None else None
    return replace(result, architecture=held.get("architecture", result.architecture), wanted_l0=wanted)


def _wanted_l0(parts: RunParts) -> float | None:
    """None of what was not trained here, or with a penalty of a fixed weight."""
    config, held = parts.config.sae, parts.run.manifest().results
    if "architecture" in held or "imported_from" in held or (config.penalised and not config.l0_controlled):
        return None
    return config.wanted_l0
