"""The rows of a run in bounded memory."""

from interp.health.alert import Row, Rows

MOST = 800
RECENT = 200


class History:
    """The recent rows whole, the older ones ever more thinly."""

    def __init__(self) -> None:
        self._rows: list[Row] = []

    @property
    def rows(self) -> Rows:
        return self._rows

    def append(self, row: Row) -> None:
        """Add the newest row. One of an earlier step begins a resumed run: what came after it is forgotten."""
        while self._rows and self._rows[-1]["step"] >= row["step"]:
            self._rows.pop()
        self._rows.append(row)
        if len(self._rows) > MOST:
            self._rows = [*self._rows[:-RECENT:2], *self._rows[-RECENT:]]
