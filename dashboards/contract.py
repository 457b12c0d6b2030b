"""What a page is told about a run, as plain JSON: the same for a single file, a live server and a notebook.

Resources by name: `summary` (this file); `table`, `token_index`, `tree` and `map` (feature_contract.py); `vocabulary`;
`feature/<id>` (feature_records.py); `document/<id>` (stretches of a document); `figures-light`, `figures-dark` (name ->
Plotly figure). A change that an older renderer would misread raises CONTRACT_VERSION. Tokens are ids throughout; their
texts stand in `vocabulary` alone. What was not measured is null.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dashboards.feature_contract import feature_facts
from dashboards.never_fired import never_fired
from dashboards.prefix_view import PREFIX_METRICS
from dashboards.provenance import essentials, footer, provenance, text_told
from dashboards.run_record import RunRecord
from saes.scores import Evaluation

CONTRACT_VERSION = 3
Json = dict[str, Any]

ARCHITECTURES = {
    "topk": "TopK",
    "batch_topk": "BatchTopK",
    "matryoshka": "Matryoshka BatchTopK",
    "standard": "L1",
    "jumprelu": "JumpReLU",
    "gated": "Gated",
    "transcoder": "Transcoder",
    "codebook": "Codebook",
}
WITHOUT_K = ("standard", "jumprelu", "gated", "transcoder")


@dataclass(frozen=True, slots=True)
class Measure:
    """One line of the table of merits. `kind` says how a value is written (web/format.js)."""

    key: str
    label: str
    kind: str
    unit: str
    meaning: str
    interval: str = ""


MEASURES = (
    Measure("explained_variance", "explained variance (EV)", "precise", "", "1 is perfect, 0 is the mean alone",
            "explained_variance_interval"),
    Measure("l0", "L0", "number", "features/token", "active features per token"),
    Measure("ce.delta", "ΔCE", "signed", "nats/token", "cross-entropy added by the SAE in place of the activations",
            "ce.delta_interval"),
    Measure("ce.recovered_vs_zero", "loss recovered, against zeros", "share", "", "100% is a lossless SAE"),
    Measure("ce.recovered_vs_mean", "loss recovered, against the mean", "share", "", "100% is a lossless SAE"),
    Measure("ce.kl", "KL", "precise", "nats/token", "of the next-token distribution from the clean model's"),
    Measure("dead_share", "dead features", "share", "never fire on the text measured",
            "of all features, those that never fired on the evaluation text"),
    Measure("dense_share", "dense features", "share", "", "fire on more than 10% of tokens"),
)  # fmt: skip
CE_ARMS = (("clean", "clean model"), ("sae", "with the {}"), ("mean", "with the mean"), ("zero", "with zeros"))


def summary(run: RunRecord, *, sample_seed: int, figures: Sequence[str]) -> Json:
    """All that the page shows before it opens anything large."""
    return {
        "contract_version": CONTRACT_VERSION,
        "run": {"name": run.name, "status": run.manifest.status, "created_utc": run.manifest.created_utc},
        "subject": subject(run),
        "headline": [
            _cell(measure, run.evaluation or {})
            | {"label": label, "note": missed_l0(run.evaluation) if measure.key == "l0" else None}
            for measure, label in _headline()
        ],
        "quality": _quality(run.evaluation, noun(run)),
        "prefixes": _prefixes(run.evaluation),
        "evaluated_on": _evaluated_on(run),
        "never_fired": never_fired(run),
        "features": feature_facts(run.statistics, sample_seed=sample_seed, layout=run.layout),
        "essentials": essentials(run),
        "footer": footer(run),
        "provenance": provenance(run),
        "command": run.manifest.command,
        "config": run.config_text,
        "figures": list(figures),
    }


def subject(run: RunRecord) -> Json:
    """Model, hook, architecture and size, None where the run does not say."""
    sae = run.config.get("sae")
    settings = sae if isinstance(sae, dict) else run.config
    # An imported SAE may be of a kind that no config names.
    architecture = run.manifest.results.get("architecture") or settings.get("architecture")
    width = run.statistics.d_sae if run.statistics is not None else settings.get("d_sae")
    title, what = _titled(architecture, settings, run.config), noun(run)
    return {
        "model": _model_name(run),
        "hook": run.manifest.model.get("hook") or _hooks(run.config),
        "architecture": title,
        "called": _called(title, what),
        "d_sae": width,
        "k": None if architecture in WITHOUT_K else settings.get("k"),
        "n_training_tokens": max((row.get("n_tokens", 0) for row in run.metrics), default=None),
        "notes": _null_arm_notes(run.config),
    }


def noun(run: RunRecord) -> str:
    """What the run's dictionary is called in a sentence: not every one is an SAE."""
    settings = run.config.get("sae")
    architecture = (settings if isinstance(settings, dict) else run.config).get("architecture")
    if run.manifest.results.get("baseline"):
        return "baseline"
    if run.config.get("more_hooks"):
        return "crosscoder"
    if run.config.get("hook_out"):
        return "transcoder"
    return str(architecture) if architecture in ("codebook", "transcoder") else "SAE"


def _called(title: str | None, what: str) -> str:
    if title is None:
        return "sparse autoencoder" if what == "SAE" else what
    return title if title.lower().endswith(what.lower()) else f"{title} {what}"


def _hooks(config: Mapping[str, Any]) -> str | None:
    """Where it stands: a transcoder's two hooks, all of a crosscoder's."""
    if config.get("hook_out"):
        return f"{config['hook']} to {config['hook_out']}"
    return ", ".join([config["hook"], *(config.get("more_hooks") or [])]) if config.get("hook") else None


def architecture_title(architecture: str, variant: str | None = None) -> str:
    """What a reader is told that an architecture is, of a codebook its variant too."""
    title = ARCHITECTURES.get(architecture, architecture)
    return f"{variant.capitalize()} {title.lower()}" if architecture == "codebook" and variant else title


def _titled(architecture: Any, settings: Mapping[str, Any], config: Mapping[str, Any]) -> str | None:
    title = architecture_title(str(architecture), settings.get("codebook_variant")) if architecture else None
    wiring = "transcoder" if config.get("hook_out") else "crosscoder" if config.get("more_hooks") else None
    return f"{title} {wiring}" if title and wiring else title


def _model_name(run: RunRecord) -> str | None:
    """Hub name, or the last part of a folder; the whole path stands in the provenance."""
    name = run.manifest.model.get("name") or run.config.get("model")
    return Path(name).name if name and Path(name).is_absolute() else name


def _null_arm_notes(config: Mapping[str, Any]) -> list[str]:
    """What makes this run a null arm, so that nobody mistakes its figures for a result."""
    notes = []
    if config.get("freeze_decoder"):
        notes.append("Null arm: the decoder was frozen as drawn at random.")
    if config.get("randomise_model") is not None:
        notes.append(f"Null arm: the model's weights were shuffled with seed {config['randomise_model']}.")
    return notes


def _headline() -> list[tuple[Measure, str]]:
    by_key = {measure.key: measure for measure in MEASURES}
    return [(by_key["explained_variance"], "EV"), (by_key["l0"], "L0"), (by_key["ce.delta"], "ΔCE")]


def _quality(evaluation: Json | None, what: str) -> Json | None:
    if evaluation is None:
        return None
    arms = {f"this {what}": evaluation, **(evaluation.get("null_arms") or {})}
    arms = {name.replace("_", " "): values for name, values in arms.items()}
    measures = [*MEASURES, *_sink_measure(evaluation)]
    rows = [
        {"label": measure.label, "unit": measure.unit, "meaning": measure.meaning}
        | {"cells": [_cell(measure, arm) for arm in arms.values()]}
        for measure in measures
    ]
    cross_entropy = [
        {"label": label.format(what), "value": value}
        for key, label in CE_ARMS
        if (value := look_up(evaluation, f"ce.{key}")) is not None
    ]
    return {"arms": list(arms), "rows": rows, "cross_entropy": cross_entropy, "missed_l0": missed_l0(evaluation)}


def missed_l0(evaluation: Json | None) -> str | None:
    """What there is to say of an L0 far from what training aimed at.

    Raises: ArtifactError if the evaluation names an aim but is damaged.
    """
    if not evaluation or evaluation.get("wanted_l0") is None:
        return None
    scores = Evaluation.from_json(evaluation)
    return f"L0 is {scores.l0:.3g}; {scores.missed_l0}." if scores.missed_l0 else None


def _sink_measure(evaluation: Json) -> list[Measure]:
    """EV without high-norm tokens, which can carry most of the variance on their own."""
    n_sinks = look_up(evaluation, "sinks.n_sinks")
    if not n_sinks:
        return []
    meaning = f"tokens above {look_up(evaluation, 'sinks.ratio')} times the median norm left out"
    label = f"EV without {n_sinks:,} high-norm tokens"
    return [Measure("sinks.explained_variance_without", label, "precise", "", meaning)]


def _cell(measure: Measure, values: Mapping[str, Any]) -> Json:
    interval = look_up(values, measure.interval) if measure.interval else None
    return {
        "value": look_up(values, measure.key),
        "interval": list(interval) if interval else None,
        "kind": measure.kind,
        "unit": measure.unit,
    }


def _prefixes(evaluation: Json | None) -> Json | None:
    rows = (evaluation or {}).get("prefixes")
    if not rows or len(rows) < 2:
        return None
    kinds = {"explained_variance": "precise", "l0": "number", "ce_delta": "signed", "kl": "precise"}
    shown = [(key, title) for key, title in PREFIX_METRICS if any(row.get(key) is not None for row in rows)]
    columns = [{"label": "first n features", "kind": "count"}]
    columns += [{"label": title, "kind": kinds[key]} for key, title in shown]
    return {"columns": columns, "rows": [[row["width"], *(row.get(key) for key, _ in shown)] for row in rows]}


def _evaluated_on(run: RunRecord) -> Json | None:
    """How much text was measured, which, and a note where it is not the run's held-out split."""
    if run.evaluation is None:
        return None
    words, heldout = text_told(run.evaluation.get("data"), run.manifest)
    other = None if heldout else f"The evaluation was not made on the run's held-out split: {words}."
    counts = {key: run.evaluation.get(key) for key in ("n_tokens", "n_documents")}
    return counts | {"text": words, "other": other}


def look_up(values: Mapping[str, Any], dotted: str) -> Any:
    """The value under a dotted path, or under the path joined by underscores (`ce_delta`); None if not measured."""
    found: Any = values
    for part in dotted.split("."):
        if not isinstance(found, Mapping) or part not in found:
            flat = dotted.replace(".", "_")
            return values.get(flat, values.get(dotted.split(".")[-1]) if "." in dotted else None)
        found = found[part]
    return found


def headline(run: RunRecord) -> list[tuple[str, str]]:
    """The key figures as text, for hosts that cannot run the page."""
    cells = [(label, _cell(measure, run.evaluation or {})) for measure, label in _headline()]
    return [(label, "not measured" if cell["value"] is None else f"{cell['value']:.4g}") for label, cell in cells]
