"""What commands print: a small table for people, or one JSON object with --json."""

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

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
