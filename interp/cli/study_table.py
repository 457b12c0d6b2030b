"""What studies print of their arms."""

from collections.abc import Mapping
from typing import Any

from interp.cli.output import print_grid

Figures = Mapping[str, Any]
"""Mean and spread of a metric over seeds."""


def print_arms(title: str, rows: Mapping[str, Mapping[str, Figures]]) -> None:
    """A row for each arm, mean ± sd over seeds."""
    columns = ("", *next(iter(rows.values())))
    print_grid(title, columns, [(arm, *map(_spread, figures.values())) for arm, figures in rows.items()])


def _spread(figures: Figures) -> str:
    if figures["mean"] is None:
        return "–"
    return f"{figures['mean']:.3f}" + (f" ±{figures['sd']:.3f}" if figures["sd"] is not None else "")
