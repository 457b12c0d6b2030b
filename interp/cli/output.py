"""What commands print: a small table for people, or one JSON object with --json."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from interp.errors import ConfigError

PIPE_WIDTH = 140

F = TypeVar("F", bound=Callable[..., Any])


def json_option(function: F) -> F:
    """Adds --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")(function)


def print_facts(title: str, facts: Mapping[str, Any], *, as_json: bool, shown: Mapping[str, str] | None = None) -> None:
    """Print `facts` as JSON, or `shown` (by default the same) as two columns."""
    if as_json:
        print(json.dumps(facts, ensure_ascii=False, allow_nan=False))
        return
    table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
    for key, value in (shown or {key: _text(value) for key, value in facts.items()}).items():
        table.add_row(key, value)
    Console(highlight=False).print(table)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def print_grid(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table with a head; columns without a name, and the one of tokens, stand left, the others right."""
    table = Table(title=title, title_justify="left", box=None)
    for column in columns:
        table.add_column(column, justify="left" if column in ("", "fires on") else "right", no_wrap=column == "")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    # A pipe or a file has no width of its own.
    Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH).print(table)


def print_page(page: Path) -> None:
    """Say where a page was written, as a browser opens it."""
    print(f"page  {page.resolve().as_uri()}")


def shown_token(text: str) -> str:
    """A token whose spaces and line ends can be seen."""
    return text.replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥")


def make_place(path: Path, flag: str) -> Path:
    """Make the folder that a file is to be written into; told before the work that would otherwise be lost.

    Raises: ConfigError if a folder stands where the file should; StorageError if there can be none.
    """
    # Files are written with torch, which a wrong flag and --help need not wait for.
    from interp.storage import make_folder

    if path.is_dir():
        raise ConfigError(f"{flag}: got {path}, which is a folder; give a file in it, such as {path / 'report.html'}")
    make_folder(path.parent)
    return path
