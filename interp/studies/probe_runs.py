"""Probes as a config asks for them: labels from their source, SAEs from their runs, a report into its folder."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dashboards.probe_page import probe_page
from interp.code import FeatureDictionary
from interp.config import Config
from interp.errors import ConfigError
from interp.models import Model, load_model
from interp.runs import hardware, installed_versions, source_commit, this_command
from interp.storage import make_folder, write_text
from probes.label_files import labels_from_conllu, labels_from_records
from probes.label_rules import by_first_letter, by_next_token, by_other_model, by_pattern, readable_texts
from probes.probe_config import LabelConfig, ProbeConfig
from probes.probe_labels import LabelledText
from probes.probe_report import probe_report
from probes.probe_results import ProbeReport
from saes import open_sae

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class ProbeRun:
    """A report and where it was written."""

    report: ProbeReport
    json_path: Path
    page_path: Path


def run_probes(config: ProbeConfig, *, on_progress: Tell | None = None) -> ProbeRun:
    """Label, harvest, probe, and write probe.json, report.html and config.yaml into config.out.

    Raises: any InterpError of reading labels, model and SAEs.
    """
    model = load_model(config.model, device=config.device)
    texts = read_labels(model, config.labels, device=config.device, seed=config.seed)
    dictionaries = _dictionaries(model, config)
    # A folder that cannot be made is told before the work; a wrong input leaves none.
    folder = make_folder(config.out)
    report = probe_report(
        model, texts, config, dictionaries=dictionaries, about=_about(config), on_progress=on_progress
    )
    run = ProbeRun(report, folder / "probe.json", folder / "report.html")
    write_text(folder / "config.yaml", config.to_yaml())
    report.save(run.json_path)
    write_text(run.page_path, probe_page(report))
    return run


def read_labels(model: Model, config: LabelConfig, *, device: str = "auto", seed: int = 0) -> list[LabelledText]:
    """Labelled texts from the source that the config names, at most so many as it says.

    Raises: DataError or ConfigError if the source cannot be read or does not fit.
    """
    if config.source == "conllu":
        return _drawn(labels_from_conllu(_path(config), config.attributes), config.texts, seed)
    if config.source == "records":
        return _drawn(labels_from_records(_path(config), label_fields=_fields(config)), config.texts, seed)
    texts = readable_texts(model, config.dataset, n=config.texts, text_field=config.text_field, roles=config.roles)
    if config.source == "pattern":
        return by_pattern(texts, config.pattern or "")
    if config.source == "first_letter":
        return by_first_letter(texts)
    if config.source == "next_token":
        return by_next_token(model, texts)
    return by_other_model(load_model(config.other_model or "", device=device), texts)


def _path(config: LabelConfig) -> Path:
    if config.path is None:
        raise ConfigError(f"labels.path: is missing; labels from {config.source} need it")
    return config.path


def _fields(config: LabelConfig) -> tuple[str, ...]:
    """Records call their label `label` unless told otherwise."""
    return ("label",) if config.attributes == LabelConfig.model_fields["attributes"].default else config.attributes


def _drawn(texts: list[LabelledText], n: int, seed: int) -> list[LabelledText]:
    return random.Random(seed).sample(texts, min(n, len(texts)))


def _dictionaries(model: Model, config: ProbeConfig) -> dict[str, FeatureDictionary]:
    """The SAEs under the names of their folders.

    Raises: ConfigError if two have one name; ArtifactError if one is not of this model.
    """
    found: dict[str, FeatureDictionary] = {}
    for path in config.saes:
        name = f"SAE {path.resolve().name}"
        if name in found:
            raise ConfigError(f"saes: got two folders named {path.resolve().name}; rename one, names tell them apart")
        opened = open_sae(path, model_name=config.model, device=config.device)
        if opened.model.content_hash != model.content_hash:
            raise ConfigError(f"{path}: is of another model than {config.model}; give the model that it was trained on")
        found[name] = opened.sae
    return found


def _about(config: Config) -> dict[str, Any]:
    return {
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": this_command(),
        "config": config.model_dump(mode="json"),
        "versions": installed_versions(),
        "commit": source_commit(),
        "hardware": hardware(),
    }
