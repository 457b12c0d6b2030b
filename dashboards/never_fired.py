"""How many features never fire, on each of the texts on which it was counted.

Three counts of one run differ because their texts do; a page that shows one of them says whose it is.
"""

from typing import Any

from dashboards.provenance import text_told
from dashboards.run_record import RunRecord

Json = dict[str, Any]


def never_fired(run: RunRecord) -> Json:
    """`rows`: of each text its words, tokens, features that never fire on it and their share; `features_text`: words.

    Evaluation first, then the pass over features, then the end of training.
    """
    features_text = None if run.statistics is None else text_told(run.collected.get("data"), run.manifest)[0]
    rows = [row for row in (_evaluation(run), _features(run, features_text), _training(run)) if row is not None]
    return {"rows": rows, "features_text": features_text}


def _evaluation(run: RunRecord) -> Json | None:
    evaluation, width = run.evaluation or {}, d_sae(run)
    share = evaluation.get("dead_share")
    if share is None or width is None:
        return None
    words = text_told(evaluation.get("data"), run.manifest)[0]
    return _row("evaluation", f"evaluation: {words}", evaluation.get("n_tokens"), round(share * width), share)


def _features(run: RunRecord, words: str | None) -> Json | None:
    s = run.statistics
    if s is None:
        return None
    n = int((s.density == 0).sum())
    return _row("features", f"list of features: {words}", s.n_tokens, n, n / max(s.d_sae, 1))


def _training(run: RunRecord) -> Json | None:
    """Training counts a feature as dead once it has not fired for a share of the run's tokens."""
    last = next((row["dead"] for row in reversed(run.metrics) if "dead" in row), None)
    width, sae = d_sae(run), run.config.get("sae")
    share = sae.get("dead_share") if isinstance(sae, dict) else None
    tokens = run.config.get("tokens")
    if last is None or width is None or not share or not isinstance(tokens, int):
        return None
    n_tokens = round(share * tokens)
    return _row("training", f"training: its last {share:.0%} of tokens", n_tokens, int(last), last / width)


def d_sae(run: RunRecord) -> int | None:
    """Features of the dictionary, None where the run does not say."""
    if run.statistics is not None:
        return run.statistics.d_sae
    sae = run.config.get("sae")
    width = sae.get("d_sae") if isinstance(sae, dict) else None
    return width if isinstance(width, int) else None


def _row(key: str, text: str, n_tokens: int | None, n: int, share: float) -> Json:
    return {"key": key, "text": text, "n_tokens": n_tokens, "n": n, "share": share}
