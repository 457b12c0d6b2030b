"""`interp evaluate`: a run folder -> evaluation.json in it."""

import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from interp.datasets import Split, TokenStream
from interp.errors import InterpError
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
    own = run.manifest().data
    if not run.evaluation_path.exists() or _is_of(own, result):
        return run.evaluation_path
    if not _is_of(own, Evaluation.from_json(read_json(run.evaluation_path))):
        return run.evaluation_path
    text, split = Path(str(result.data.get("dataset"))).stem, result.data.get("split", {}).get("used")
    return run.path / f"evaluation_{re.sub(r'[^A-Za-z0-9-]+', '-', text)}_{split}.json"


def _is_of(data: Mapping[str, Any] | None, result: Evaluation) -> bool:
    """Whether it was made on the held-out part of this text, as far as either tells."""
    known = (data or {}).get("content_hash")
    same = known is None or known == result.data.get("content_hash")
    return bool(same and result.data.get("split", {}).get("used", "heldout") == "heldout")


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
    if not run.evaluation_path.exists():
        return result
    before = Evaluation.from_json(read_json(run.evaluation_path))
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
    return replace(result, architecture=held.get("architecture", result.architecture), wanted_l0=_wanted_l0(parts))


def _wanted_l0(parts: RunParts) -> float | None:
    """None of what was not trained here, or with a penalty of a fixed weight."""
    config, held = parts.config.sae, parts.run.manifest().results
    if "architecture" in held or "imported_from" in held or (config.penalised and not config.l0_controlled):
        return None
    return config.wanted_l0
