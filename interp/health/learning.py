"""Does it learn? Loss, explained variance and gradients."""

from collections.abc import Sequence
from statistics import median

import numpy as np

from interp.health.alert import Alert, Row, Rows, alert, having, since
from interp.health.expected import Expected

SMOOTHED = 5
RISEN, DIVERGED = 1.3, 3.0
SPIKE = 10.0
POOR_EV, LITTLE_GAIN = 0.3, 0.01


def rising_loss(rows: Rows, _: Expected) -> Alert | None:
    """Smoothed loss above 1.3 times its running minimum for ten rows, or above 3 times for three."""
    rows = having(rows, "loss")
    if len(rows) < 4 * SMOOTHED:
        return None
    loss = np.array([row["loss"] for row in rows])
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(loss, SMOOTHED), axis=1)
    lowest = np.minimum.accumulate(smooth)
    # A loss that passes zero has no ratio; one that rises because the code gets sparser does what it should.
    if lowest[-1] <= 0 or _sparser(rows, int(smooth.argmin()) + SMOOTHED - 1):
        return None
    ratio = smooth / lowest
    factor = float(ratio[-1])
    diverged = factor > DIVERGED and bool((ratio[-3:] > DIVERGED).all())
    if not diverged and not (ratio[-10:] > RISEN).all():
        return None
    begun = len(ratio) - _trailing(ratio > RISEN)
    what = "The loss diverges" if diverged else "The loss rises"
    seen = f"{what}: {smooth[-1]:.4g}, {factor:.1f} times its lowest {lowest[-1]:.4g}"
    advice = "lower the learning rate (--schedule.lr) or warm up longer (--schedule.warmup-share)"
    return alert("loss", "critical" if diverged else "warning", seen, advice, since=rows[begun + SMOOTHED - 1])


def _sparser(rows: Rows, best: int) -> bool:
    now, then = rows[-1].get("l0"), rows[best].get("l0")
    explains = rows[-1].get("explained_variance", 0.0) > 0
    return now is not None and then is not None and now < 0.8 * then and explains


def _trailing(bad: Sequence[bool] | np.ndarray) -> int:
    return next((n for n, is_bad in enumerate(bad[::-1]) if not is_bad), len(bad))


def negative_variance(rows: Rows, expected: Expected) -> Alert | None:
    """Explained variance below zero and not rising, after ten rows and a tenth of the run; far below, at once. At the
    end of the run, rising too."""
    rows = having(rows, "explained_variance")
    return _stays_below_zero(rows, expected) or _ended_below_zero(rows, expected)


def _ended_below_zero(rows: Rows, expected: Expected) -> Alert | None:
    if not rows or rows[-1]["explained_variance"] >= 0 or expected.progress(rows[-1]["step"]) != 1:
        return None
    fell = any(row["explained_variance"] >= 0 for row in rows)
    now = _written(rows[-1]["explained_variance"])
    seen = f"The run ended at an explained variance of {now}: the mean alone reconstructs better"
    advice = "lower --schedule.lr: it was better before" if fell else "give it more --tokens, or a higher --schedule.lr"
    return alert("variance", "critical", seen, advice, since=rows[-1])


def _stays_below_zero(rows: Rows, expected: Expected) -> Alert | None:
    begun = since(rows, lambda row: row["explained_variance"] < 0, at_least=5)
    if begun is None or len(rows) < 10:
        return None
    now, before = rows[-1]["explained_variance"], rows[-5]["explained_variance"]
    progress = expected.progress(rows[-1]["step"])
    if now > before + LITTLE_GAIN or (now > -1 and progress is not None and progress < 0.1):
        return None
    seen = f"Explained variance is {_written(now)}: the mean alone would reconstruct better"
    penalty = "" if expected.k else "lower the penalty (--sae.l1-coefficient) if there is one; "
    advice = f"{penalty}lower --schedule.lr; check the hook's activations for outliers"
    return alert("variance", "critical", seen, advice, since=begun)


def _written(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.0f}"


def stuck_variance(rows: Rows, expected: Expected) -> Alert | None:
    """Low explained variance that has not moved over the second half of the run so far."""
    rows = having(rows, "explained_variance")
    progress = expected.progress(rows[-1]["step"]) if rows else None
    if len(rows) < 30 or (progress is not None and progress < 0.25):
        return None
    values = [row["explained_variance"] for row in rows]
    half = len(values) // 2
    then, now = median(values[half : half + SMOOTHED]), median(values[-SMOOTHED:])
    if not 0 <= now < POOR_EV or now - then >= LITTLE_GAIN:
        return None
    what = "has fallen to" if now < then - 2 * LITTLE_GAIN else "is stuck at"
    seen = f"Explained variance {what} {now:.3f} (half of the rows ago: {then:.3f})"
    more = "raise --schedule.lr or --sae.k, or widen --sae.d-sae"
    advice = more if expected.k else f"lower the penalty (--sae.l1-coefficient) if there is one; {more}"
    return alert("stuck", "warning", seen, advice, since=rows[half])


def gradient_spike(rows: Rows, _: Expected) -> Alert | None:
    """A gradient norm above ten times the median of the twenty rows before it, in the last fifty."""
    rows = having(rows, "grad_norm")
    for place in range(len(rows) - 1, max(9, len(rows) - 51), -1):
        usual = median(row["grad_norm"] for row in rows[max(0, place - 20) : place])
        norm = rows[place]["grad_norm"]
        if norm > SPIKE * usual > 0:
            seen = f"Gradient spike: norm {norm:.3g}, {norm / usual:.0f} times its usual {usual:.3g}"
            advice = "look whether the loss recovers; if spikes repeat, lower --schedule.lr or set --clip-norm"
            return alert("gradient", "warning", seen, advice, since=rows[place])
    return None


def clipping_began(rows: Rows, expected: Expected) -> Alert | None:
    """Most gradients are clipped that were not at first.

    A run clipped from its first step on is healthy: the optimiser is scale-free, so that only the direction counts.
    """
    rows, clip = having(rows, "grad_norm"), expected.clip_norm
    if clip <= 0 or len(rows) < 60:
        return None

    def share(part: Rows) -> float:
        return sum(row["grad_norm"] > clip for row in part) / len(part)

    early, late = share(rows[:30]), share(rows[-30:])
    if early > 0.3 or late < 0.9:
        return None
    begun: Row = since(rows, lambda row: row["grad_norm"] > clip, at_least=1) or rows[-30]
    seen = f"Gradients are clipped to {clip:g} in {late:.0%} of the steps, where it was {early:.0%} at first"
    return alert("clipping", "warning", seen, "the run has become rougher: lower --schedule.lr", since=begun)
