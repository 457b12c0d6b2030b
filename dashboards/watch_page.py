"""training.html: how a run goes, in one small file that refreshes itself while it is rewritten."""

import base64
import hashlib
import html
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

from dashboards import bundle
from dashboards.packing import as_json
from dashboards.watch_run import RunWatch, Seen, run_folders
from interp.errors import ArtifactError
from interp.storage import write_text

PAGE = "training.html"
SCHEMA_VERSION = 1
_UNDER_WAY = ("running", "silent")
_IN_TABLE = ("name", "state", "step", "n_steps", "left_s", "last", "spark", "early")


class PageWriter:
    """Keeps the page of a run up to date; of a sweep, a table of its runs and a page for each."""

    def __init__(self, folder: Path, *, every_s: float | None = None) -> None:
        """`every_s`: seconds after which a page under way loads itself anew; None: never.

        Raises: ArtifactError if the folder holds no run.
        """
        self.path = folder / PAGE
        self._folder, self._every_s = folder, every_s
        self._watches: dict[Path, RunWatch] = {}
        self._many = run_folders(folder) != [folder]

    def write(self) -> list[Seen]:
        """Look at all runs, write their pages, and give what was seen.

        Raises: ArtifactError if a manifest is damaged; StorageError if a page cannot be written.
        """
        seen = []
        for folder in run_folders(self._folder):
            if folder not in self._watches:
                self._watches[folder] = RunWatch(folder)
            one = self._watches[folder].look()
            above = f"../../{PAGE}" if self._many else None
            write_text(folder / PAGE, render_run(one, every_s=self._every_s, above=above))
            seen.append(one)
        if self._many:
            write_text(self.path, render_sweep(self._folder.resolve().name, seen, every_s=self._every_s))
        return seen


def write_watch_page(folder: Path | str) -> Path:
    """Write the page of a run or of a sweep once, and give its path.

    Raises: ArtifactError if the folder holds no run; StorageError if a page cannot be written.
    """
    writer = PageWriter(Path(folder))
    writer.write()
    return writer.path


def under_way(seen: Sequence[Seen]) -> bool:
    """Whether any run may still write metrics."""
    return any(one.state in _UNDER_WAY for one in seen)


def render_run(seen: Seen, *, every_s: float | None = None, above: str | None = None) -> str:
    """The page of one run; `above` leads to the table of its sweep."""
    return _render(f"{seen.name}: training", {"run": seen.facts, "above": above}, [seen], every_s)


def render_sweep(name: str, seen: Sequence[Seen], *, every_s: float | None = None) -> str:
    """The table of a sweep's runs, each leading to its own page."""
    return _render(f"{name}: training", {"sweep": name, "runs": list(_lines(seen))}, seen, every_s)


def _lines(seen: Sequence[Seen]) -> Iterator[dict[str, Any]]:
    for one in seen:
        told = {key: one.facts[key] for key in _IN_TABLE}
        first = [{"level": alert.level, "seen": alert.seen} for alert in one.alerts[:1]]
        yield told | {"alerts": first, "n_alerts": len(one.alerts), "href": f"runs/{one.name}/{PAGE}"}


def _render(title: str, facts: Mapping[str, Any], seen: Sequence[Seen], every_s: float | None) -> str:
    refresh = every_s if under_way(seen) else None
    head: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "written_unix": round(time.time(), 1)}
    head |= {"every_s": refresh, "over": not under_way(seen)}
    script, digest = _script()
    return Template(bundle.read_web("watch.html")).substitute(
        title=html.escape(title),
        styles=bundle.styles(bundle.WATCH_STYLES),
        script=script,
        script_hash=f"sha256-{digest}",
        facts=as_json(head | dict(facts)),
    )


@cache
def _script() -> tuple[str, str]:
    """The page's code and its digest, by which alone the page lets code run."""
    script = bundle.script(bundle.WATCH_ENTRY)
    return script, base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")


def check_folder(folder: Path) -> None:
    """Raises: ArtifactError if the path is a file."""
    if folder.is_file():
        raise ArtifactError(f"{folder}: is a file; give the folder of a run or of a sweep")
