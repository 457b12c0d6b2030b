"""Where a run comes from, as lines of label and value."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dashboards.run_record import RunRecord
from interp.runs import RunManifest

Line = list[str]
UNKNOWN = "not recorded"


def essentials(run: RunRecord) -> list[Line]:
    """The few lines of provenance that a reader looks for first."""
    manifest, evaluation = run.manifest, run.evaluation or {}
    policy = evaluation.get("mask_policy") or _nested(run.config, "data", "mask")
    packages = ("interp-workbench", "torch", "transformers")
    lines = {
        "model hash": manifest.model.get("content_hash", UNKNOWN),
        "data": run.config.get("dataset") or manifest.data.get("name") or UNKNOWN,
        "split": _split(manifest.data.get("split")),
        "features from": _collected_from(run),
        "masked": _masked(policy),
        "seed": manifest.seed,
        "commit": manifest.commit or UNKNOWN,
        "versions": ", ".join(f"{name} {manifest.versions[name]}" for name in packages if name in manifest.versions),
        "hardware": ", ".join(_written(value) for value in _hardware(manifest.hardware)),
    }
    return _lines(lines)


def footer(run: RunRecord) -> list[Line]:
    """The line at the foot of every page: model, data, seed, source; hashes shortened, whole in `provenance`."""
    manifest = run.manifest
    named = {"dataset": run.config["dataset"]} if run.config.get("dataset") else {}
    model = run.config.get("model") or manifest.model.get("name")
    lines = {
        "model": f"{_last(model)} {_short(manifest.model.get('content_hash'))}",
        "data": _data({**manifest.data, **named}),
        "features from": _collected_from(run),
        "seed": str(manifest.seed),
        "commit": _short(manifest.commit),
    }
    return _lines(lines)


def _collected_from(run: RunRecord) -> str | None:
    """Data in which the features were looked for, where it is not what the SAE was trained on."""
    if run.statistics is None:
        return None
    text = run.collected.get("data")
    if not isinstance(text, Mapping):
        return UNKNOWN
    same = all(text.get(key) == run.manifest.data.get(key) for key in ("dataset", "content_hash", "split"))
    return None if same else _data(text)


def text_told(facts: Any, manifest: RunManifest) -> tuple[str, bool]:
    """Which text some data facts are of, in words, and whether it is the run's held-out split."""
    if not isinstance(facts, Mapping):
        return f"which text is {UNKNOWN}", False
    if any(facts.get(key) != manifest.data.get(key) for key in ("dataset", "content_hash")):
        return _data(facts), False
    used = _nested(facts, "split", "used")
    words = {"train": "the run's training text", "heldout": "the run's held-out split"}
    return words.get(str(used), "all of the run's text"), used == "heldout"


def _data(facts: Mapping[str, Any]) -> str:
    """Name, split and shortened hash."""
    used = _nested(facts, "split", "used")
    return f"{_last(facts.get('dataset'))}{f', {used}' if used else ''} {_short(facts.get('content_hash'))}"


def _last(name: Any) -> str:
    """A hub name, or the last part of a folder."""
    return Path(str(name)).name if name and Path(str(name)).is_absolute() else str(name or UNKNOWN)


def _short(digest: Any) -> str:
    return str(digest)[:12] if digest else UNKNOWN


def _split(split: Any) -> str:
    if isinstance(split, Mapping):
        return ", ".join(f"{_words(str(key))} {_written(value)}" for key, value in split.items())
    return str(split) if split else UNKNOWN


def _masked(policy: Any) -> str:
    if not isinstance(policy, Mapping):
        return UNKNOWN
    words = {"mask_bos": "beginning-of-sequence token", "mask_special": "special tokens"}
    return ", ".join(["padding", *(word for key, word in words.items() if policy.get(key))])


def _hardware(facts: Mapping[str, Any]) -> list[Any]:
    shown = [facts[key] for key in ("accelerator", "processor") if key in facts]
    return [*shown, f"{facts['threads']} thread{'' if facts['threads'] == 1 else 's'}"] if "threads" in facts else shown


def _nested(values: Mapping[str, Any], *keys: str) -> Any:
    found: Any = values
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def provenance(run: RunRecord) -> list[dict[str, Any]]:
    """Groups of (label, value) lines, from which a reader can check and repeat."""
    manifest = run.manifest
    evaluation = run.evaluation or {}
    about = {
        "status": manifest.status, "created (UTC)": manifest.created_utc, "seed": manifest.seed,
        "commit": manifest.commit or UNKNOWN,
    }  # fmt: skip
    measured: dict[str, Any] = {
        key: evaluation[key] for key in ("model_hash", "data", "mask_policy") if key in evaluation
    }
    groups: dict[str, Mapping[str, Any]] = {
        "Run": about,
        "Model": manifest.model,
        "Data": manifest.data,
        "Features": run.collected,
        "Evaluation": measured,
        "Results": manifest.results,
        "Versions": manifest.versions,
        "Hardware": manifest.hardware,
    }
    return [{"title": title, "lines": _lines(values)} for title, values in groups.items() if values]


def _lines(values: Mapping[str, Any], prefix: str = "") -> list[Line]:
    lines: list[Line] = []
    for key, value in values.items():
        label = f"{prefix}{_words(str(key))}"
        if isinstance(value, Mapping):
            lines += _lines(value, f"{label}, ")
        elif value is not None:
            lines.append([label, _written(value)])
    return lines


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, list | tuple):
        return ", ".join(_written(item) for item in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _words(key: str) -> str:
    return key.replace("_", " ")
