"""Everything a finished run left on disk, read once; what was not measured is None."""

import json
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dashboards.decoder_layout import DecoderLayout
from dashboards.feature_contract import Labels
from dashboards.layout_file import load_layout
from dashboards.tokens import load_token_texts
from interp.config import read_yaml
from interp.errors import ArtifactError
from interp.runs import RunFolder, RunManifest
from interp.storage import read_json
from saes.feature_files import load_features, read_head
from saes.feature_index import INDEX_FILE, read_labels
from saes.feature_statistics import FeatureStatistics

MetricRow = dict[str, float]
_OTHERS = {
    "pretrain": "a language model trained from scratch; `interp watch {0}` shows how that went, "
    "`interp models {0}/model` what it is",
    "activations": "activations; train an SAE on them with `interp train --activations {0}` and show its run",
    "lens": "a lens; `dashboards.show` takes its folder, `interp lens report {0}` writes its page",
    "codebook": "a model finetuned with codebooks; `interp codebook inspect {0}` writes its page, and "
    "`dashboards.show` takes its Inspection, PromptGrid or CodeSteering",
}
"""What run folders hold that are none of an SAE, by kind, and what shows them."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What a report is made from; `collected` says from which text, SAE and settings the features are."""

    name: str
    manifest: RunManifest
    config: dict[str, Any]
    config_text: str
    metrics: list[MetricRow]
    evaluation: dict[str, Any] | None
    statistics: FeatureStatistics | None
    token_texts: list[str] | None
    layout: DecoderLayout | None = None
    labels: Labels = field(default_factory=dict)
    collected: dict[str, Any] = field(default_factory=dict)


def load_run(path: Path | str) -> RunRecord:
    """Read the run folder of an SAE or another dictionary.

    Raises: ArtifactError if it is no run folder, holds a run of another kind, or a file in it is damaged.
    """
    run = RunFolder.open(path)
    manifest = run.manifest()
    if manifest.kind != "sae":
        raise ArtifactError(f"{path}: holds no SAE but {_OTHERS[manifest.kind].format(shlex.quote(str(path)))}")
    statistics = load_features(run.features) if (run.features / "features.json").exists() else None
    return RunRecord(
        name=run.name,
        manifest=manifest,
        config=read_yaml(run.config_path) if run.config_path.exists() else {},
        config_text=run.config_path.read_text(encoding="utf-8") if run.config_path.exists() else "",
        metrics=read_metrics(run.metrics_path),
        evaluation=_read_evaluation(run.evaluation_path),
        statistics=statistics,
        token_texts=load_token_texts(run.features),
        labels={} if statistics is None else _labels(run.features),
        collected={} if statistics is None else read_head(run.features).get("provenance", {}),
        layout=None if statistics is None else load_layout(run.features, statistics.d_sae),
    )


def read_metrics(path: Path) -> list[MetricRow]:
    """Rows of metrics.jsonl; a last line still being written is left out, a missing file has no rows.

    Raises: ArtifactError naming the line that is damaged.
    """
    if not path.exists():
        return []
    *lines, _unfinished = path.read_text(encoding="utf-8").split("\n")
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ArtifactError(f"{path}, line {number}: not valid JSON ({error}); the file is damaged") from None
        if not isinstance(row, dict):
            raise ArtifactError(f"{path}, line {number}: got {type(row).__name__}; expected a JSON object")
        rows.append({key: value for key, value in row.items() if isinstance(value, int | float)})
    return rows


def _labels(features_folder: Path) -> Labels:
    path = features_folder / INDEX_FILE
    return {feature: (label, note) for feature, label, note, _ in read_labels(path)} if path.exists() else {}


def _read_evaluation(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    evaluation = read_json(path)
    if not isinstance(evaluation, dict):
        raise ArtifactError(f"{path}: got {type(evaluation).__name__}; expected a JSON object; evaluate the run again")
    return evaluation
