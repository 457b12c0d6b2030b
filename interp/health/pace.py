"""Does it get on? Throughput, where the time goes, silence and stops."""

from statistics import median

from interp.health.alert import Alert, Row, Rows, alert, having
from interp.health.expected import Expected
from interp.health.stops import Stop

SLOWED = 0.5
MOSTLY_HARVEST = 0.7
OFTEN = 0.2
PATIENCE_S, PATIENCE_AT_START_S = 60.0, 600.0


def seconds(row: Row) -> float:
    """What the steps of a row took."""
    return row.get("seconds_harvest", 0.0) + row.get("seconds_shuffle", 0.0) + row.get("seconds_update", 0.0)


def slowed_down(rows: Rows, expected: Expected) -> Alert | None:
    """Recent tokens per second below half of the median of the run before."""
    windows = _windows(rows, expected)
    if len(windows) < 4:
        return None
    *before, now = [_speed(window) for window in windows]
    usual = median(before)
    if now >= SLOWED * usual:
        return None
    seen = f"Throughput fell to {now:,.0f} tokens/s, {now / usual:.0%} of its usual {usual:,.0f}"
    advice = "see what else uses this machine (processor, memory, disk) and whether it is throttled"
    return alert("slow", "warning", seen, advice, since=windows[-1][0])


def harvest_dominates(rows: Rows, expected: Expected) -> Alert | None:
    """More than 70% of the time goes into running the model."""
    windows = _windows(rows, expected)
    if not windows:
        return None
    harvest = sum(row.get("seconds_harvest", 0.0) for row in windows[-1])
    share = harvest / sum(map(seconds, windows[-1]))
    if share <= MOSTLY_HARVEST:
        return None
    ahead = any("seconds_ahead" in row for row in windows[-1])
    advice = (
        "collect once with `interp collect` and train with --activations; or "
        f"{'' if ahead else '--harvest.prefetch 8 where cores are free, '}a larger --data.batch-tokens, "
        "--dtype bfloat16, or several SAEs in one pass"
    )
    what = "Waiting for activations" if ahead else "Harvesting"
    return alert("harvest", "note", f"{what} takes {share:.0%} of the time", advice, since=windows[-1][0])


def _windows(rows: Rows, expected: Expected) -> list[Rows]:
    """Stretches from the end backward: at least ten rows and two harvested blocks each, so that bursts even out."""
    rows = [row for row in having(rows, "tokens_per_s") if seconds(row) > 0]
    windows: list[Rows] = []
    end, tokens = len(rows), 0.0
    for start in range(len(rows) - 1, -1, -1):
        tokens += _tokens(rows[start])
        if end - start >= 10 and tokens >= 2 * expected.block_tokens:
            windows.append(rows[start:end])
            end, tokens = start, 0.0
    return windows[::-1]


def _tokens(row: Row) -> float:
    return row["tokens_per_s"] * seconds(row)


def _speed(window: Rows) -> float:
    return sum(map(_tokens, window)) / sum(map(seconds, window))


def frequent_fallbacks(rows: Rows, _: Expected) -> Alert | None:
    """The quick selection gave up in a fifth of the last fifty rows."""
    late = having(rows, "fallbacks")[-50:]
    fell = [row for row in late if row["fallbacks"] > 0]
    if len(late) < 10 or len(fell) < OFTEN * len(late):
        return None
    seen = f"The quick selection of features fell back to the full sort in {len(fell) / len(late):.0%} of the steps"
    return alert("fallbacks", "note", seen, "nothing is wrong, only slower; please report the setting", since=fell[0])


def stopped(stop: Stop, rows: Rows) -> Alert:
    """Why a run ended before its last step."""
    last = rows[-1] if rows else {"step": 0}
    if stop.interrupted:
        return alert("stopped", "warning", "The run was interrupted", "go on with --resume", since=last)
    return alert("stopped", "critical", f"The run stopped: {stop.reason}", "mend the cause, then --resume", since=last)


def silence(rows: Rows, *, age_s: float, resume_with: str) -> Alert | None:
    """No new row for much longer than a row takes."""
    slowest = max(map(seconds, rows[-20:]), default=0.0)
    if age_s < (max(PATIENCE_S, 5 * slowest) if rows else PATIENCE_AT_START_S):
        return None
    last = rows[-1] if rows else {"step": 0}
    usual = f"; one came every {slowest:.0f} s at the slowest" if rows else ""
    seen = f"No new line of metrics for {duration(age_s)}{usual}"
    advice = f"the process was killed or hangs: look at it, then go on with `{resume_with}`"
    return alert("silent", "critical", seen, advice, since=last)


def duration(s: float) -> str:
    """Seconds in words, coarsely."""
    if s < 90:
        return f"{s:.0f} s"
    return f"{s / 60:.0f} minutes" if s < 5400 else f"{s / 3600:.1f} hours"
