"""Run folders: what was asked, with what, on what, and how to repeat it.

Layout: runs/<name>/{config.yaml, manifest.json, metrics.jsonl, checkpoints/, sae/, features/, evaluation.json,
report.html}.
"""

import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
import yaml
from pydantic import Field

from interp.config import Config, read_yaml
from interp.errors import ArtifactError, ConfigError
from interp.hub_documents import former_hash
from interp.storage import holds_text, is_there, make_folder, read_json, write_json, write_text

SCHEMA_VERSION = 1
C = TypeVar("C", bound=Config)


class RunManifest(Config):
    """Provenance of a run or of an activation store."""

    kind: Literal["sae", "pretrain", "activations", "lens", "codebook"]
    """What the folder holds."""
    schema_version: int = SCHEMA_VERSION
    """Version of this layout."""
    status: Literal["running", "finished"] = "running"
    """Whether the run reached its end."""
    created_utc: str
    """When it was started."""
    command: str
    """What repeats it."""
    seed: int
    """Seed of everything random in it."""
    versions: dict[str, str]
    """Versions of Python and the packages that compute."""
    commit: str | None = None
    """Commit of the source tree, `+changes` where it had uncommitted ones; none for an installed package."""
    hardware: dict[str, Any]
    """Processor, threads, accelerator."""
    model: dict[str, Any] = Field(default_factory=dict)
    """Name, family and content hash of the model looked at."""
    data: dict[str, Any] = Field(default_factory=dict)
    """Data set, its hash, split and mask policy."""
    results: dict[str, Any] = Field(default_factory=dict)
    """What was counted while it ran."""

    @classmethod
    def begin(
        cls, kind: Literal["sae", "pretrain", "activations", "lens", "codebook"], *, seed: int, **facts: Any
    ) -> "RunManifest":
        """A manifest of what is running now."""
        return cls(
            kind=kind,
            created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
            command=this_command(),
            seed=seed,
            versions=installed_versions(),
            commit=source_commit(),
            hardware=hardware(),
            **facts,
        )


_WRITTEN = (
    "sae", "model", "lens", "codebooks", "corpus.jsonl.gz", "checkpoints", "metrics.jsonl", "features",
    "evaluation.json", "sweep.json",
)  # fmt: skip
"""What runs of all kinds leave in their folder after the manifest: without one, it is somebody else's."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths and records of one run. Holds no state of its own."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def started(self) -> bool:
        """Whether a run is in the folder.

        Raises: StorageError if the path cannot be looked at.
        """
        return is_there(self.manifest_path)

    @property
    def config_path(self) -> Path:
        return self.path / "config.yaml"

    @property
    def manifest_path(self) -> Path:
        return self.path / "manifest.json"

    @property
    def metrics_path(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def sae(self) -> Path:
        return self.path / "sae"

    @property
    def features(self) -> Path:
        return self.path / "features"

    @property
    def evaluation_path(self) -> Path:
        return self.path / "evaluation.json"

    @property
    def report_path(self) -> Path:
        return self.path / "report.html"

    @classmethod
    def open(cls, path: Path | str) -> "RunFolder":
        """An existing run.

        Raises: ArtifactError if the folder is missing or holds no run.
        """
        run = cls(Path(path))
        if not is_there(run.path) or not run.path.is_dir():
            raise ArtifactError(f"{path}: no such run folder; give the folder that `interp train --out` wrote")
        if not run.manifest_path.exists():
            raise ArtifactError(f"{path}: holds no manifest.json, so it is not a run folder; check the path")
        return run

    @classmethod
    def begin(cls, path: Path | str, config: Config, manifest: RunManifest) -> "RunFolder":
        """A new run folder.

        Raises: ConfigError if a run is there already; StorageError if the folder cannot be written.
        """
        run = cls(Path(path))
        run.check_free(config)
        make_folder(run.path)
        write_text(run.config_path, config.to_yaml())
        run.write_manifest(manifest)
        return run

    def check_free(self, config: Config | None = None) -> None:
        """Raises: ConfigError if a run is there already, or another config than the one that is to be written."""
        if self.started:
            raise ConfigError(
                f"{self.path}: already holds a run; give another --out, or --resume to go on with this one"
            )
        # The same config alone is what a kill leaves before there is a manifest.
        if self.config_path.exists() and (config is None or not holds_text(self.config_path, config.to_yaml())):
            raise ConfigError(f"{self.config_path}: is there without a run and would be replaced; give another --out")
        held = [name for name in _WRITTEN if is_there(self.path / name)]
        if held:
            raise ConfigError(
                f"{self.path}: holds {held[0]} of something else, which a run would replace or hide; give another --out"
            )

    def goes_on(self, config: Config, *, resume: bool, may_differ: tuple[str, ...] = ()) -> bool:
        """Whether a run of this config that was begun here is taken up again; else a new one may begin here.

        Raises: ConfigError if it was begun with other settings, or, without `resume`, the folder is taken.
        """
        if resume and self.started:
            self.check_same_config(config, may_differ=may_differ)
            return True
        self.check_free(config)
        return False

    def manifest(self) -> RunManifest:
        """Raises: ArtifactError if it is damaged or of another schema version."""
        values = read_json(self.manifest_path)
        if not isinstance(values, dict) or values.get("schema_version") != SCHEMA_VERSION:
            raise ArtifactError(f"{self.manifest_path}: not a manifest of schema version {SCHEMA_VERSION}")
        try:
            return RunManifest.parse(values, source=str(self.manifest_path))
        except ConfigError as error:
            raise ArtifactError(str(error)) from None

    def write_manifest(self, manifest: RunManifest) -> None:
        """Replace the manifest."""
        write_json(self.manifest_path, manifest.model_dump(mode="json"))

    def config(self, cls: type[C]) -> C:
        """The config that the run was started with.

        Raises: ConfigError if it does not fit `cls`.
        """
        return cls.parse(read_yaml(self.config_path), source=str(self.config_path))

    def check_same_config(self, config: Config, *, may_differ: tuple[str, ...] = ()) -> None:
        """Raises: ConfigError naming the first setting that differs from the one the run was started with."""
        # Read as a config: a setting that is younger than the run has the default that the run went by.
        old, new = yaml.safe_load(self.config(type(config)).to_yaml()), yaml.safe_load(config.to_yaml())
        for name, was, is_now in differences(old, new):
            if name not in may_differ:
                raise ConfigError(
                    f"{self.path}: was started with {name} = {was!r}; got {is_now!r}; "
                    "resume with the same settings or give another --out"
                )

    def check_same_inputs(self, *, model: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        """Raises: ArtifactError if model, data or chat template differ from what the run was started with."""
        manifest = self.manifest()
        inputs = [("model", manifest.model, model), ("data set", manifest.data, data)]
        for name, then_other in manifest.model.get("others", {}).items():
            inputs.append((f"model {name!r}", then_other, model.get("others", {}).get(name, {})))
        # Runs that are older than the record of templates are taken as they are.
        if then := manifest.data.get("chat_template"):
            inputs.append(("chat template", then, data.get("chat_template") or {}))
        for what, was, is_now in inputs:
            then, now = was.get("content_hash"), is_now.get("content_hash")
            if then not in (now, former_hash(str(is_now.get("dataset")))):
                raise ArtifactError(
                    f"{self.path}: the {what}'s content has changed since the run was started "
                    f"({str(then)[:12]}… then, {str(now)[:12]}… now); restore it or start anew"
                )


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    """Dotted names of the settings that differ between two configs as plain values, with what was and what is now."""
    found = []
    for key in [*new, *(key for key in old if key not in new)]:
        was, is_now = old.get(key), new.get(key)
        if isinstance(was, dict) and isinstance(is_now, dict):
            found += differences(was, is_now, f"{prefix}{key}.")
        elif was != is_now:
            found.append((f"{prefix}{key}", was, is_now))
    return found


def this_command() -> str:
    """The command line of this process, as one would type it."""
    arguments = sys.argv[1:]
    if Path(sys.argv[0]).name in ("interp", "__main__.py"):
        return shlex.join(["interp", *arguments])
    return shlex.join(["python", *sys.argv])


def installed_versions() -> dict[str, str]:
    """Versions of Python and of the packages that compute."""
    found = {"python": platform.python_version()}
    for package in ("interp-workbench", "torch", "transformers", "numpy", "safetensors", "triton"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def source_commit() -> str | None:
    """Commit of the checkout that this package runs from; None for an installed package."""
    here = Path(__file__).resolve().parent.parent
    if not (here / ".git").exists():
        return None
    try:
        commit = _git(here, "rev-parse", "HEAD")
        return f"{commit}+changes" if _git(here, "status", "--porcelain", "-uno") else commit
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def hardware() -> dict[str, Any]:
    """Processor, cores, threads in use and accelerator."""
    facts: dict[str, Any] = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    if torch.cuda.is_available():
        facts["accelerator"] = torch.cuda.get_device_name(0)
    return facts


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@contextmanager
def nothing_left(folder: Path) -> Iterator[None]:
    """Take out of the folder again what the block put there, if it fails."""
    before = set(folder.iterdir()) if folder.is_dir() else None

    def take_out() -> None:
        for path in set(folder.iterdir()) - (before or set()) if folder.is_dir() else ():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        if before is None and folder.is_dir():
            folder.rmdir()

    with ExitStack() as stack:
        stack.callback(take_out)
        yield
        stack.pop_all()
