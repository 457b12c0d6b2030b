"""Is the code sparse and in use? Dead and dense features, L0, threshold."""

import math
from statistics import median

from interp.health.alert import Alert, Row, Rows, alert, having, since
from interp.health.expected import Expected

DEAD, MOSTLY_DEAD, DYING = 0.25, 0.5, 0.05
DENSE = 0.05
OFF_K, OFF_TARGET = 0.05, 0.2
NOTHING = 0.5
COLLAPSED = 1e-6
DRIFT = 2.0
SMOOTHED = 5


def dead_features(rows: Rows, expected: Expected) -> Alert | None:
    """A quarter of the features dead; or a tenth, and quickly more."""
    rows, d_sae = having(rows, "dead"), expected.d_sae
    if not rows or not d_sae:
        return None
    shares = [row["dead"] / d_sae for row in rows]
    now = shares[-1]
    before = shares[-min(len(shares), max(10, len(shares) // 5))]
    dying = now >= 0.1 and now - before >= DYING
    if now < DEAD and not dying:
        return None
    begun = since(rows, lambda row: row["dead"] / d_sae >= min(now, 0.1), at_least=1) or rows[-1]
    seen = f"{rows[-1]['dead']:,.0f} of {d_sae:,} features are dead ({now:.0%}"
    seen += f", {before:.0%} at step {rows[-min(len(rows), max(10, len(rows) // 5))]['step']:,.0f})" if dying else ")"
    advice = (
        "raise --sae.aux-coefficient, lower --schedule.lr, or take fewer features (--sae.d-sae); "
        "with a penalty, lower its weight"
    )
    return alert("dead", "critical" if now >= MOSTLY_DEAD else "warning", seen, advice, since=begun)


def dense_features(rows: Rows, expected: Expected) -> Alert | None:
    """More than a twentieth of the features fire on more than a tenth of the tokens."""
    rows, d_sae = having(rows, "dense"), expected.d_sae
    l0 = rows[-1].get("l0", 0.0) if rows else 0.0
    # Where a dictionary is small for its L0, many features must be dense.
    if not d_sae or l0 > DENSE / 2 * d_sae:
        return None
    begun = since(rows, lambda row: row["dense"] > DENSE * d_sae, at_least=5)
    if begun is None:
        return None
    now = rows[-1]["dense"]
    seen = f"{now:,.0f} of {d_sae:,} features ({now / d_sae:.0%}) fire on more than a tenth of the tokens"
    advice = "lower --schedule.lr or --sae.k; with a penalty, raise its weight"
    return alert("dense", "warning", seen, advice, since=begun)


def l0_off_target(rows: Rows, expected: Expected) -> Alert | None:
    """L0 away from k by 5%; or from a controller's target by 20%, late in the run and not getting nearer."""
    rows = having(rows, "l0")
    target = expected.k or expected.l0_target
    if not target or len(rows) < 10:
        return None
    off = OFF_K if expected.k else OFF_TARGET
    begun = since(rows, lambda row: abs(row["l0"] / target - 1) > off, at_least=10)
    if begun is None or (not expected.k and (_early(rows, expected, 0.25) or _nearing(rows, target))):
        return None
    now = median(row["l0"] for row in rows[-5:])
    if now < NOTHING:
        return _nothing_fires(now, begun)
    if expected.k:
        seen = f"L0 is {now:.1f} where k is {target:g}"
        advice = "too few features have a positive value, or too many pass: look at the dead features and the bias"
    else:
        seen = f"L0 is {now:.1f} where {target:g} is wanted, and does not get nearer"
        advice = "raise --sae.l0-rate, train longer, or start from a nearer --sae.l1-coefficient"
    return alert("l0", "warning", seen, advice, since=begun)


def _early(rows: Rows, expected: Expected, share: float) -> bool:
    progress = expected.progress(rows[-1]["step"])
    return len(rows) < 20 if progress is None else progress < share


def _nearing(rows: Rows, target: float) -> bool:
    def distance(part: Rows) -> float:
        return abs(math.log(max(median(row["l0"] for row in part), 1e-3) / target))

    return distance(rows[-5:]) < 0.9 * distance(rows[-15:-10] or rows[:5])


def l0_out_of_range(rows: Rows, expected: Expected) -> Alert | None:
    """Without a target: almost nothing fires, or a tenth of the dictionary does and it does not get less."""
    rows, d_sae = having(rows, "l0"), expected.d_sae
    if expected.k or expected.l0_target or len(rows) < 10:
        return None
    begun = since(rows, lambda row: row["l0"] < NOTHING, at_least=5)
    if begun is not None:
        return _nothing_fires(rows[-1]["l0"], begun)
    if not d_sae or _early(rows, expected, 0.25):
        return None
    begun = since(rows, lambda row: row["l0"] > max(100, 0.1 * d_sae), at_least=10)
    if begun is None or rows[-1]["l0"] < 0.9 * rows[-max(10, len(rows) // 5)]["l0"]:
        return None
    seen = f"The code is not sparse: L0 is {rows[-1]['l0']:,.0f} of {d_sae:,} features"
    advice = "raise the penalty (--sae.l1-coefficient) or name the L0 you want (--sae.l0-target)"
    return alert("l0", "warning", seen, advice, since=begun)


def _nothing_fires(l0: float, begun: Row) -> Alert:
    advice = "lower --schedule.lr; with a penalty, lower its weight (--sae.l1-coefficient)"
    return alert("l0", "critical", f"Almost nothing fires: L0 is {l0:.2g}", advice, since=begun)


def threshold_collapsed(rows: Rows, expected: Expected) -> Alert | None:
    """A learnt threshold at zero: at inference every positive value would fire."""
    rows = having(rows, "threshold")
    if not expected.has_threshold or len(rows) < 10:
        return None
    begun = since(rows, lambda row: row["threshold"] <= COLLAPSED, at_least=5)
    if begun is None:
        return None
    seen = f"The threshold has collapsed to {rows[-1]['threshold']:.2g}: codes will be dense once trained"
    advice = "fewer than k values are positive: look at dead features, lower --schedule.lr"
    return alert("threshold", "critical", seen, advice, since=begun)


def threshold_drifting(rows: Rows, expected: Expected) -> Alert | None:
    """A threshold that changes twofold within the last fifth of the rows, in the run's second half."""
    rows = having(rows, "threshold")
    if not expected.has_threshold or len(rows) < 50 or _early(rows, expected, 0.5):
        return None
    late = rows[-len(rows) // 5 :]
    first, last = (median(row["threshold"] for row in part) for part in (late[:SMOOTHED], late[-SMOOTHED:]))
    if min(first, last) <= COLLAPSED or max(first, last) < DRIFT * min(first, last):
        return None
    seen = f"The threshold still drifts: from {first:.3g} to {last:.3g}"
    advice = "train longer or let the learning rate fall sooner (--schedule.decay-share), or evaluate L0 before use"
    return alert("drift", "warning", seen, advice, since=late[0])
