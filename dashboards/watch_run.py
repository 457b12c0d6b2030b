"""A run, or the runs of a sweep, while it trains: what the page tells of it."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from dashboards.contract import architecture_title
from dashboards.watch_charts import charts
from dashboards.watch_rows import Envelope, MetricsTail, Pace
from interp.config import read_yaml
from interp.errors import ArtifactError, ConfigError
from interp.health.alert import LEVELS, Alert, Row
from interp.health.checks import alerts
from interp.health.expected import Expected, expected_of
from interp.health.history import History
from interp.health.pace import silence, stopped
from interp.health.stops import read_stop
from interp.runs import RunFolder, RunManifest

State = Literal["running", "finished", "stopped", "silent"]
FEW_ROWS = 10
SPARK = 60
SHOWN = ("loss", "explained_variance", "l0", "dead", "dense", "grad_norm", "threshold", "pace")


@dataclass(frozen=True, slots=True)
class Seen:
    """A run at one moment."""

    name: str
    state: State
    alerts: tuple[Alert, ...]
    facts: Mapping[str, Any]
    """As the page gets it."""


class RunWatch:
    """Follows one run folder; each look reads only what was added."""

    def __init__(self, folder: Path, *, name: str | None = None) -> None:
        """Raises: ArtifactError if the folder holds no run."""
        self.run = RunFolder.open(folder)
        self.name = name or self.run.name
        self._config = _read(self.run.config_path)
        self._tail = MetricsTail(self.run.metrics_path)
        self._begin()

    def _begin(self) -> None:
        self._expected = expected_of(self.run.path)
        self._history, self._pace = History(), Pace(self._expected.block_tokens)
        self._curves, self._spark = Envelope(), Envelope(SPARK)
        self._last: Row | None = None

    def look(self, *, now: float | None = None) -> Seen:
        """What there is to tell.

        Units: `now` in seconds since 1970; by default the clock's.
        Raises: ArtifactError if the manifest is damaged.
        """
        self._take_up()
        now = time.time() if now is None else now
        manifest = self.run.manifest()
        state, found = self._state(manifest, now)
        found = sorted(found, key=lambda alert: LEVELS.index(alert.level))
        return Seen(self.name, state, tuple(found), self._facts(manifest, state, found, now))

    def _take_up(self) -> None:
        again, rows = self._tail.read()
        if again:
            self._begin()
        for row in rows:
            self._last = self._pace.add(row)
            self._history.append(row)
            self._curves.add(self._last)
            self._spark.add(self._last)

    def _state(self, manifest: RunManifest, now: float) -> tuple[State, list[Alert]]:
        rows = self._history.rows
        found = alerts(rows, self._expected)
        if manifest.status == "finished":
            return "finished", found
        if (stop := read_stop(self.run.path)) is not None:
            return "stopped", [stopped(stop, rows), *found]
        resume = manifest.command if "--resume" in manifest.command else f"{manifest.command} --resume"
        quiet = silence(rows, age_s=now - self._changed(), resume_with=resume)
        return ("running", found) if quiet is None else ("silent", [quiet, *found])

    def _changed(self) -> float:
        path = self.run.metrics_path if self._last is not None else self.run.manifest_path
        return path.stat().st_mtime

    def _facts(self, manifest: RunManifest, state: State, found: list[Alert], now: float) -> dict[str, Any]:
        last, curves = self._last or {}, self._curves.curves()
        return {
            "name": self.name,
            "state": state,
            "what": what_it_is(self._config),
            "command": manifest.command,
            "created_utc": manifest.created_utc,
            "age_s": round(now - self._changed(), 1),
            "step": int(last.get("step", 0)),
            "n_tokens": int(last.get("n_tokens", 0)),
            "n_steps": self._expected.n_steps,
            "left_s": _left(last, self._expected),
            "last": {key: last[key] for key in SHOWN if key in last},
            "target_l0": self._expected.k or self._expected.l0_target,
            "d_sae": self._expected.d_sae,
            "early": len(self._history.rows) < FEW_ROWS,
            "n_rows": len(self._history.rows),
            "alerts": [asdict(alert) for alert in found],
            "charts": charts(list(curves["low"]), self._expected),
            "curves": curves,
            "spark": self._spark.curves()["low"].get("explained_variance", []),
        }


def _left(last: Row, expected: Expected) -> float | None:
    """Seconds until the last step, at the present pace."""
    if not expected.n_steps or not last.get("step") or not last.get("pace"):
        return None
    tokens_per_step = last.get("n_tokens", 0) / last["step"]
    return round((expected.n_steps - last["step"]) * tokens_per_step / last["pace"], 1)


def what_it_is(config: Mapping[str, Any]) -> list[str]:
    """Architecture, model, hook and text, as far as the config names them."""
    sae = config.get("sae")
    parts = []
    if isinstance(sae, dict) and "architecture" in sae:
        architecture = str(sae["architecture"])
        title = architecture_title(architecture, sae.get("codebook_variant"))
        parts.append(title if architecture == "codebook" else f"{title} SAE")
        parts += [f"{sae['d_sae']:,} features"] if isinstance(sae.get("d_sae"), int) else []
        parts += [f"k = {sae['k']}"] if isinstance(sae.get("k"), int) and expected_k(architecture) else []
    words = ((config.get(key), text) for key, text in (("model", "model {}"), ("hook", "{}"), ("dataset", "text {}")))
    return [*parts, *(text.format(value) for value, text in words if isinstance(value, str))]


def expected_k(architecture: str) -> bool:
    """Whether k is what the architecture itself keeps to."""
    return architecture in ("topk", "batch_topk", "matryoshka", "codebook")


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_yaml(path)
    except ConfigError:
        return {}


def run_folders(folder: Path) -> list[Path]:
    """The run in a folder, or all those in its `runs` subfolder.

    Raises: ArtifactError if there is neither.
    """
    if (folder / "manifest.json").exists() and not (folder / "runs").is_dir():
        return [folder]
    found = sorted(path.parent for path in (folder / "runs").glob("*/manifest.json"))
    if not found:
        raise ArtifactError(f"{folder}: holds no run and no runs/; give the folder that `interp train --out` wrote")
    return found
