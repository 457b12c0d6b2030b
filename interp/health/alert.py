"""What an alert says, and since when something holds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Row = Mapping[str, float | int]
Rows = Sequence[Row]
Level = Literal["critical", "warning", "note"]
LEVELS: tuple[Level, ...] = ("critical", "warning", "note")
"""Most urgent first: the run is lost or will be; its result will suffer; it costs time."""


@dataclass(frozen=True, slots=True)
class Alert:
    """Something in a run that a person should look at.

    Units: step and n_tokens are where it began.
    """

    name: str
    """One word per kind: the same trouble keeps its name."""
    level: Level
    seen: str
    """What was measured, with its number."""
    advice: str
    """What to try."""
    step: int
    n_tokens: int

    def line(self) -> str:
        """All of it in one line."""
        return f"{self.seen} (since step {self.step:,}): {self.advice}"


def alert(name: str, level: Level, seen: str, advice: str, *, since: Row) -> Alert:
    """An alert that began at a row."""
    return Alert(name, level, seen, advice, int(since["step"]), int(since.get("n_tokens", 0)))


def having(rows: Rows, key: str) -> list[Row]:
    """The rows that hold a metric."""
    return [row for row in rows if key in row]


def since(rows: Rows, bad: Callable[[Row], bool], *, at_least: int) -> Row | None:
    """First row of the stretch at the end in which all rows are bad; None if it is shorter than `at_least`."""
    n = 0
    for row in reversed(rows):
        if not bad(row):
            break
        n += 1
    return rows[len(rows) - n] if n >= max(1, at_least) else None
