"""`interp evaluate`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from interp.cli.output import json_option, print_facts
from interp.counts import parse_count
from saes.evaluate_run import evaluate_run
from saes.evaluation import CrossEntropy, Evaluation

_EXAMPLES = """\b
Examples:
  interp evaluate runs/quickstart
  interp evaluate runs/quickstart --tokens 200k --json
  interp evaluate runs/quickstart --dataset other_stories.jsonl --split all
"""


class _Count(click.ParamType[int]):
    name = "N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        number = parse_count(value)
        if not isinstance(number, int):
            try:
                number = int(value)
            except ValueError:
                self.fail(f"got {value!r}; expected a number of tokens such as 100k", param, ctx)
        if number < 1:
            self.fail(f"got {value!r}; expected at least 1", param, ctx)
        return number


COUNT = _Count()
SEED = click.IntRange(0, 2**31 - 1)


@click.command("evaluate", epilog=_EXAMPLES)
@click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--tokens", default=100_000, show_default=True, type=COUNT, help="Tokens to measure on.")
@click.option("--dataset", help="Other text than the run's own held-out split.")
@click.option(
    "--split",
    type=click.Choice(["heldout", "train", "all"]),
    default="heldout",
    show_default=True,
    help="Documents to measure on, by the run's own split.",
)
@click.option("--model", "model_name", help="The run's model if it has moved; its content must be the same.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda (cuda:1 for the second GPU).")
@click.option("--seed", default=0, show_default=True, type=SEED, help="Seed of the bootstrap intervals.")
@json_option
def command(run_folder: Path, tokens: int, as_json: bool, **options: Any) -> None:
    """Measure a trained SAE on held-out text and write evaluation.json into the run folder.

    Of a transcoder what it writes is measured, of a crosscoder each hook, replaced alone, and their mean. Explained
    variance, L0, dead and dense features; cross-entropy with the activations replaced by zero, by their mean
    and by the SAE's reconstruction (not for encoders, which predict no next token); per prefix for Matryoshka.
    Intervals resample documents.
    """
    result = evaluate_run(run_folder, n_tokens=tokens, **options)
    print_facts(f"Evaluation of {run_folder}", result.to_json(), as_json=as_json, shown=shown(result))


def shown(result: Evaluation) -> dict[str, str]:
    """The figures of an evaluation as a person reads them, units and intervals included."""
    lines = {
        "text": f"{result.n_tokens:,} tokens of {result.n_documents:,} documents",
        **_wiring(result),
        "explained variance": f"{result.explained_variance:.4f}{_interval(result.explained_variance_interval)}",
        "L0": f"{result.l0:.2f} features per token" + (f"  ({result.missed_l0})" if result.missed_l0 else ""),
        "dead, dense features": f"{result.dead_share:.2%}, {result.dense_share:.2%}",
        **_losses(result.ce),
        **_overlap(result.data.get("overlap_with_training")),
    }
    for hook in result.hooks:
        cost = "" if hook.ce is None else f"   ΔCE {hook.ce.delta:+.4f}{_interval(hook.ce.delta_interval)}"
        lines[hook.hook] = f"EV {hook.explained_variance:.4f}{_interval(hook.explained_variance_interval)}{cost}"
    for prefix in result.prefixes:
        cost = "" if prefix.ce_delta is None else f"   ΔCE {prefix.ce_delta:+.4f}"
        numbers = f"EV {prefix.explained_variance:.4f}   L0 {prefix.l0:.2f}{cost}"
        lines[f"first {prefix.width:,} features"] = numbers
    return lines


def _wiring(result: Evaluation) -> dict[str, str]:
    """What was measured, and how several hooks become one figure."""
    kind = {} if result.architecture is None else {"dictionary": result.architecture}
    if len(result.hooks_out) > 1:
        return {**kind, "hooks": f"{len(result.hooks_out)}; the figures of all are their means, one replaced at a time"}
    if result.hooks_in != result.hooks_out:
        return {**kind, "hooks": f"{', '.join(result.hooks_in)} -> {result.hook}"}
    return kind


def _overlap(found: Mapping[str, Any] | None) -> dict[str, str]:
    if found is None:
        return {}
    reason = found.get("not_measured") or (None if found["n_ngrams"] else f"no run of {found['n']} words in the text")
    if reason is not None:
        return {"also in training text": f"not measured: {reason}"}
    share = f"{found['document_share']:.2%} of documents, {found['ngram_share']:.2%} of runs of {found['n']} words"
    return {"also in training text": f"{share} (of {found['n_training_documents']:,} documents)"}


def _losses(ce: CrossEntropy | None) -> dict[str, str]:
    if ce is None:
        return {"CE": "not measured: no next-token loss of its own (an encoder, or hooks of two models)"}
    return {
        "CE clean": f"{ce.clean:.4f} nats per token",
        "CE with SAE": f"{ce.sae:.4f}",
        "CE with zero, mean": f"{ce.zero:.4f}, {ce.mean:.4f}",
        "ΔCE": f"{ce.delta:+.4f} nats per token{_interval(ce.delta_interval)}",
        "loss recovered": f"{_share(ce.recovered_vs_zero)} of zero, {_share(ce.recovered_vs_mean)} of mean ablation",
        "KL(clean, SAE)": f"{ce.kl:.4f} nats per token",
    }


def _interval(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"  (95% over documents: {interval[0]:.4f} to {interval[1]:.4f})"


def _share(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.2%}"
