"""All checks of a run's rows, and the alerts that are new since the last row."""

from dataclasses import replace

from interp.health import learning, pace, sparsity
from interp.health.alert import LEVELS, Alert, Row, Rows
from interp.health.expected import Expected
from interp.health.history import History

CHECKS = (
    learning.rising_loss,
    learning.negative_variance,
    learning.stuck_variance,
    learning.gradient_spike,
    learning.clipping_began,
    sparsity.dead_features,
    sparsity.dense_features,
    sparsity.l0_off_target,
    sparsity.l0_out_of_range,
    sparsity.threshold_collapsed,
    sparsity.threshold_drifting,
    pace.slowed_down,
    pace.harvest_dominates,
    pace.frequent_fallbacks,
)


def alerts(rows: Rows, expected: Expected) -> list[Alert]:
    """What holds at the last row, the most urgent first. Pure."""
    found = [alert for check in CHECKS if (alert := check(rows, expected)) is not None]
    return sorted(found, key=lambda alert: LEVELS.index(alert.level))


class HealthWatch:
    """Follows a run row by row and tells each trouble once, and again only if it has become more urgent."""

    def __init__(self, expected: Expected) -> None:
        self._expected, self._history = expected, History()
        self._told: dict[str, int] = {}

    def add(self, row: Row, *, d_sae: int | None = None) -> list[Alert]:
        """The alerts that are new with this row; `d_sae` where the config did not tell."""
        self._history.append(row)
        expected = self._expected if self._expected.d_sae else replace(self._expected, d_sae=d_sae)
        new = []
        for alert in alerts(self._history.rows, expected):
            urgency = LEVELS.index(alert.level)
            if urgency < self._told.get(alert.name, len(LEVELS)):
                self._told[alert.name] = urgency
                new.append(alert)
        return new
