"""A sweep on disk: OUT/{sweep.yaml, sweep.json, runs/<member>/, sweep_results.json, sweep_report.html}.

sweep.json is what a resumed sweep goes by: its `step` moves only when every member's checkpoint of that step is whole.
"""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from interp.checkpoints import list_checkpoints
from interp.config import Config, read_yaml
from interp.errors import ArtifactError, ConfigError
from interp.runs import RunFolder, differences, hardware, installed_versions, source_commit, this_command
from interp.storage import holds_text, is_there, make_folder, read_json, write_json, write_text
from saes.sweep_config import Member, SweepConfig
from saes.training import FREE_ON_RESUME as FREE_FOR_A_RUN

SCHEMA_VERSION = 1
FREE_ON_RESUME = ("out", *(f"base.{name}" for name in FREE_FOR_A_RUN))
"""May differ between a sweep and its continuation: none of them changes what is computed."""


class MemberRecord(Config):
    """What became of a member."""

    settings: dict[str, Any]
    """What sets it apart from the other members."""
    status: Literal["running", "finished", "failed"] = "running"
    """failed: its loss or gradients were not finite; its run keeps its last checkpoint."""
    message: str | None = None
    """Why it failed."""
    seconds: float = 0.0
    """Time in its own steps, harvesting apart."""
    n_steps: int = 0
    """Steps that took it."""


class SweepRecord(Config):
    """What happened in a sweep so far; sweep.json."""

    schema_version: int = SCHEMA_VERSION
    """Version of this layout."""
    status: Literal["running", "finished"] = "running"
    """Whether every member is trained, or has failed."""
    step: int = 0
    """The step that a resumed sweep goes on from: every member has its checkpoint."""
    created_utc: str
    """When it was started."""
    command: str
    """What repeats it."""
    versions: dict[str, str]
    """Versions of Python and the packages that compute."""
    commit: str | None = None
    """Commit of the source tree; none for an installed package."""
    hardware: dict[str, Any]
    """Processor, threads, accelerator."""
    model: dict[str, Any]
    """Name, family and content hash of the model looked at."""
    data: dict[str, Any]
    """Data set, its hash, split and mask policy."""
    members: dict[str, MemberRecord]
    """Every member by name."""
    memory_bytes: dict[str, int] = Field(default_factory=dict)
    """What the sweep needs, part by part."""
    seconds_harvest: float = 0.0
    """Time in harvesting and shuffling, once for all members."""
    seconds: float = 0.0
    """Time from the first harvest to the last step, initial weights, checkpoints and logging included."""

    @classmethod
    def begin(cls, members: tuple[Member, ...], **facts: Any) -> "SweepRecord":
        """The record of a sweep that starts now."""
        return cls(
            created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
            command=this_command(),
            versions=installed_versions(),
            commit=source_commit(),
            hardware=hardware(),
            members={member.name: MemberRecord(settings=dict(member.settings)) for member in members},
            **facts,
        )

    def with_member(self, name: str, **changes: Any) -> "SweepRecord":
        """The same with something changed about one member."""
        changed = self.members[name].model_copy(update=changes)
        return self.model_copy(update={"members": {**self.members, name: changed}})

    def cost(self) -> dict[str, float | int | None]:
        """What the steps took, and what every member alone would have: H + Σ S against Σ (H + S).

        Checkpoints, logging and starting are in neither. Units: seconds; saving is the share that one pass saves.
        """
        taken = [member for member in self.members.values() if member.n_steps]
        together = self.seconds_harvest + sum(member.seconds for member in taken)
        steps = max((member.n_steps for member in taken), default=0)
        # A member that failed early would have harvested no further than that.
        alone = sum(member.seconds + self.seconds_harvest * member.n_steps / steps for member in taken)
        return {
            "harvest_seconds": self.seconds_harvest,
            "steps_seconds": together - self.seconds_harvest,
            "together_seconds": together,
            "alone_seconds": alone,
            "saving": None if alone == 0 else 1 - together / alone,
            "wall_seconds": self.seconds,
            "n_members": len(taken),
        }


@dataclass(frozen=True, slots=True)
class SweepFolder:
    """Paths and records of one sweep. Holds no state of its own."""

    path: Path

    @property
    def config_path(self) -> Path:
        return self.path / "sweep.yaml"

    @property
    def record_path(self) -> Path:
        return self.path / "sweep.json"

    @property
    def results_path(self) -> Path:
        return self.path / "sweep_results.json"

    @property
    def report_path(self) -> Path:
        return self.path / "sweep_report.html"

    @property
    def started(self) -> bool:
        """Whether a sweep is in the folder."""
        return is_there(self.record_path)

    def run(self, name: str) -> RunFolder:
        """A member's run folder."""
        return RunFolder(self.path / "runs" / name)

    @classmethod
    def open(cls, path: Path | str) -> "SweepFolder":
        """An existing sweep.

        Raises: ArtifactError if there is none.
        """
        folder = cls(Path(path))
        if not is_there(folder.path) or not folder.started:
            raise ArtifactError(f"{path}: holds no sweep.json; give the folder that `interp sweep` wrote (its `out`)")
        return folder

    def config(self) -> SweepConfig:
        """The config that the sweep was started with."""
        return SweepConfig.parse(read_yaml(self.config_path), source=str(self.config_path))

    def record(self) -> SweepRecord:
        """Raises: ArtifactError if it is damaged or of another schema version."""
        values = read_json(self.record_path)
        if not isinstance(values, dict) or values.get("schema_version") != SCHEMA_VERSION:
            raise ArtifactError(f"{self.record_path}: not a record of schema version {SCHEMA_VERSION}")
        try:
            return SweepRecord.parse(values, source=str(self.record_path))
        except ConfigError as error:
            raise ArtifactError(str(error)) from None

    def write_record(self, record: SweepRecord) -> None:
        """Replace the record."""
        write_json(self.record_path, record.model_dump(mode="json"))

    def begin(self, config: SweepConfig, record: SweepRecord) -> None:
        """Make the folder. Raises: StorageError if it cannot be written."""
        make_folder(self.path)
        write_text(self.config_path, config.to_yaml())
        self.write_record(record)

    def check_free(self, config: SweepConfig) -> None:
        """Raises: ConfigError if a sweep, or anything of that name, is there already."""
        if self.started:
            raise ConfigError(f"{self.path}: already holds a sweep; give another --out, or --resume to go on with it")
        # The same config alone is what a kill leaves before there is a record.
        same = holds_text(self.config_path, config.to_yaml())
        for path in (*(() if same else (self.config_path,)), self.path / "runs"):
            if is_there(path):
                raise ConfigError(f"{path}: is there without a sweep and would be replaced; give another --out")

    def check_same_config(self, config: SweepConfig) -> None:
        """Raises: ConfigError naming the first setting that differs from the one the sweep was started with."""
        old, new = yaml.safe_load(self.config().to_yaml()), yaml.safe_load(config.to_yaml())
        for name, was, is_now in differences(old, new):
            if name not in FREE_ON_RESUME:
                raise ConfigError(
                    f"{self.path}: was started with {name} = {was!r}; got {is_now!r}; "
                    "resume with the same settings or give another --out"
                )

    def go_back(self, name: str, step: int) -> Path | None:
        """A member's checkpoint of the sweep's step; what lies beyond it, from a round that was cut off, is dropped.

        None if no checkpoint was made yet; what was begun of the run is then dropped as well.
        Raises: ArtifactError if the member no longer has that checkpoint.
        """
        run = self.run(name)
        if step == 0:
            shutil.rmtree(run.path, ignore_errors=True)
            return None
        here = run.checkpoints / f"step_{step}"
        if not here.is_dir():
            raise ArtifactError(
                f"{here}: the sweep goes on from this checkpoint, and it is gone; "
                f"finish the member with `interp train {run.config_path} --resume`, then resume the sweep"
            )
        # First the pointer: a kill in between leaves a run that still knows where it is.
        write_text(run.checkpoints / "latest", here.name + "\n")
        checkpoints = list_checkpoints(run.checkpoints)
        for beyond in checkpoints[checkpoints.index(here) + 1 :]:
            shutil.rmtree(beyond)
        return here
