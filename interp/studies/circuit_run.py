"""From finished runs, or from a model alone, to a circuit with its curves: what `interp circuit` does."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from interp.circuits import Circuit
from interp.component_circuits import component_circuit, component_curve
from interp.errors import ArtifactError, ConfigError
from interp.example_pairs import pronoun_pairs
from interp.feature_circuits import feature_circuit, feature_curves, score_nodes
from interp.feature_nodes import FeatureNodes, mean_baseline
from interp.feature_sites import sites_of
from interp.models import Model, load_model
from interp.outcomes import OUTCOMES
from interp.pair_files import SplitPairs, read_split_pairs
from saes.run_parts import RunParts, open_run

Progress = Callable[[str, int, int], None]


def run_circuit(
    run_folders: Sequence[Path],
    *,
    prompts: Path | None,
    model_name: str | None,
    outcome: str,
    baseline: str,
    node_threshold: float,
    edge_threshold: float,
    n_steps: int,
    n_random: int,
    random_sizes: Sequence[int] | None,
    seed: int,
    device: str,
    on_progress: Progress | None = None,
) -> Circuit:
    """A circuit of the runs' features, or of heads and MLPs where no run is given, with its held-out curves.

    Raises: ArtifactError if the runs are of different models; ConfigError for means without runs; what reading prompts
    and runs raises.
    """
    judge = OUTCOMES[outcome]
    if not run_folders and baseline == "mean":
        raise ConfigError("baseline: got mean for heads and MLPs, which are set to the corrupt prompts; give runs")
    if not run_folders:
        model = load_model(model_name or "embedded", device=device)
        pairs = _pairs(model, prompts)
        found = component_circuit(
            model, pairs.train, judge, n_steps=n_steps, node_threshold=node_threshold, edge_threshold=edge_threshold
        )
        tell = None if on_progress is None else lambda done, of: on_progress("random circuits", done, of)
        curve = component_curve(
            model, pairs.train, pairs.heldout, judge, n_steps=n_steps, n_random=n_random, seed=seed, on_progress=tell
        )
        return _with_origin(found.with_curves([curve]), pairs, {})
    runs = [open_run(folder, model_name=model_name, device=device) for folder in run_folders]
    model = _one_model(runs, run_folders)
    pairs = _pairs(model, prompts)
    sites = sites_of(model, [run.sae for run in runs])
    if baseline == "mean":
        means = mean_baseline(model, sites, pairs.train.clean)
        nodes, heldout = (FeatureNodes.of_prompts(model, sites, p.clean, means) for p in (pairs.train, pairs.heldout))
    else:
        nodes, heldout = (FeatureNodes.of_pairs(model, sites, p) for p in (pairs.train, pairs.heldout))
    scores = score_nodes(nodes, judge, n_steps=n_steps)
    found = feature_circuit(
        nodes, scores, judge, node_threshold=node_threshold, edge_threshold=edge_threshold, on_progress=on_progress
    )
    curves = feature_curves(
        heldout, scores, judge, n_random=n_random, random_sizes=random_sizes, seed=seed, on_progress=on_progress
    )
    facts = {run.sae.hooks_out[0]: _run_facts(run, folder) for run, folder in zip(runs, run_folders, strict=True)}
    return _with_origin(found.with_curves(curves), pairs, facts)


def _pairs(model: Model, prompts: Path | None) -> SplitPairs:
    return pronoun_pairs(model) if prompts is None else read_split_pairs(prompts, model)


def _one_model(runs: Sequence[RunParts], folders: Sequence[Path]) -> Model:
    first = runs[0].model
    for run, folder in zip(runs, folders, strict=True):
        if run.model.content_hash != first.content_hash:
            raise ArtifactError(
                f"{folder}: is of model {run.model.name}, {folders[0]} of {first.name}; give runs of one model"
            )
    return first


def _run_facts(run: RunParts, folder: Path) -> dict[str, Any]:
    held = {"run": str(folder), "d_sae": run.sae.d_sae, "architecture": run.config.sae.architecture}
    return held | {"report": run.run.report_path.exists()}


def _with_origin(circuit: Circuit, pairs: SplitPairs, dictionaries: dict[str, Any]) -> Circuit:
    """The same with what was read recorded."""
    return circuit.with_provenance({"prompts": pairs.facts, "dictionaries": dictionaries})
