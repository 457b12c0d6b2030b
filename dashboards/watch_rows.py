"""metrics.jsonl while it grows: new lines only, the time smoothed, curves of bounded length that keep their spikes."""

import itertools
import json
import math
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dashboards.numbers import rounded
from interp.health.alert import Row
from interp.health.pace import seconds

DIGITS = 5
SMOOTHED_ROWS, MOST_SMOOTHED = 5, 64
STATIC = ("step", "n_tokens")


class MetricsTail:
    """Whole lines that were added since the last look; begins anew where a resumed run has cut the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._forget()

    def _forget(self) -> None:
        self._offset, self._last_step, self._end = 0, -1.0, b""

    def read(self) -> tuple[bool, list[Row]]:
        """Whether all former rows are void, and the rows that are new. A missing file has none."""
        rows, again = self._new_rows(), False
        if rows is None:
            self._forget()
            rows, again = self._new_rows() or [], True
        return again, rows

    def _new_rows(self) -> list[Row] | None:
        """None if the file is not the one read so far with lines added."""
        try:
            with self._path.open("rb") as file:
                # The end of what was read must stand where it stood.
                file.seek(self._offset - len(self._end))
                if file.read(len(self._end)) != self._end:
                    return None
                data = file.read()
        except FileNotFoundError:
            return [] if self._offset == 0 else None
        whole = data[: data.rfind(b"\n") + 1]
        rows = [row for line in whole.splitlines() if (row := _row(line)) is not None]
        steps = [self._last_step, *(row["step"] for row in rows)]
        if any(late <= early for early, late in itertools.pairwise(steps)):
            return None if self._offset else _ascending(rows)
        self._offset += len(whole)
        self._last_step = steps[-1]
        self._end = (self._end + whole)[-256:]
        return rows


def _row(line: bytes) -> Row | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    if not isinstance(row, dict) or not isinstance(row.get("step"), int | float):
        return None
    return {key: value for key, value in row.items() if isinstance(value, int | float) and math.isfinite(value)}


def _ascending(rows: list[Row]) -> list[Row]:
    kept: list[Row] = []
    for row in rows:
        if not kept or row["step"] > kept[-1]["step"]:
            kept.append(row)
    return kept


class Pace:
    """Speed and shares of time over the last rows: harvesting comes in bursts of a block, which this evens out."""

    def __init__(self, block_tokens: int) -> None:
        self._enough = 2 * block_tokens
        self._rows: deque[Row] = deque()
        self._tokens = 0.0

    def add(self, row: Row) -> Row:
        """The row with `pace` (tokens per second) and `share_` text, harvest (without text), shuffle and update."""
        if "tokens_per_s" not in row or seconds(row) <= 0:
            return row
        self._rows.append(row)
        self._tokens += _tokens(row)
        while len(self._rows) > SMOOTHED_ROWS and self._may_lose(self._rows[0]):
            self._tokens -= _tokens(self._rows.popleft())
        total = sum(map(seconds, self._rows))
        parts = [part for part in ("text", "harvest", "shuffle", "update") if f"seconds_{part}" in row]
        shares = {f"share_{p}": sum(_part(r, p) for r in self._rows) / total for p in parts}
        return {**row, "pace": self._tokens / total, **shares}

    def _may_lose(self, oldest: Row) -> bool:
        return len(self._rows) > MOST_SMOOTHED or self._tokens - _tokens(oldest) >= self._enough


def _part(row: Row, part: str) -> float:
    """Seconds of a part; those of text are in harvest's."""
    less = row.get("seconds_text", 0.0) if part == "harvest" else 0.0
    return row.get(f"seconds_{part}", 0.0) - less


def _tokens(row: Row) -> float:
    return row["tokens_per_s"] * seconds(row)


class Envelope:
    """Lowest and highest value of every metric in at most `most` stretches of equally many rows."""

    def __init__(self, most: int = 300) -> None:
        self._most, self._rows_each, self._open = most, 1, 0
        self._ends: list[tuple[float, float]] = []
        self._low: list[dict[str, float]] = []
        self._high: list[dict[str, float]] = []

    def add(self, row: Row) -> None:
        """Take up the next row."""
        values = {key: float(value) for key, value in row.items() if key not in STATIC}
        end = (row["step"], row.get("n_tokens", row["step"]))
        if self._open in (0, self._rows_each):
            if len(self._ends) == self._most:
                self._halve()
            self._open = 0
        if self._open == 0:
            self._ends.append(end)
            self._low.append(values)
            self._high.append(dict(values))
        else:
            self._ends[-1] = end
            _merge(self._low[-1], values, min)
            _merge(self._high[-1], values, max)
        self._open += 1

    def _halve(self) -> None:
        for values, pick in ((self._low, min), (self._high, max)):
            for early, late in zip(values[::2], values[1::2], strict=False):
                _merge(early, late, pick)
            del values[1::2]
        # An odd one at the end stays as it is; `most` is even, so there is none.
        self._ends = self._ends[1::2]
        self._rows_each *= 2

    def curves(self) -> dict[str, Any]:
        """Steps and tokens at the stretches' ends; `low` and `high` by metric, `high` left out where they are equal."""
        keys = list(dict.fromkeys(key for values in self._high for key in values))
        low, high = ({key: _column(values, key) for key in keys} for values in (self._low, self._high))
        return {
            "step": [int(step) for step, _ in self._ends],
            "tokens": [int(tokens) for _, tokens in self._ends],
            "rows_each": self._rows_each,
            "low": low,
            "high": {key: column for key, column in high.items() if column != low[key]},
        }


def _merge(into: dict[str, float], values: Mapping[str, float], pick: Any) -> None:
    for key, value in values.items():
        into[key] = pick(into[key], value) if key in into else value


def _column(stretches: list[dict[str, float]], key: str) -> list[Any]:
    return rounded(np.array([values.get(key, np.nan) for values in stretches]), DIGITS)
