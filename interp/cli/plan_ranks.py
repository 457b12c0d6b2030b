"""`interp plan --ranks`: what is printed of a run on several ranks."""

from collections.abc import Sequence

from interp.cli.output import print_facts, print_grid
from interp.cli.units import duration, size
from interp.errors import ConfigError
from saes.planning.accelerators import Accelerator
from saes.planning.model_sizes import TYPED
from saes.planning.spread_plan import SpreadPlan, counts_for_ranks, growth
from saes.train_config import TrainConfig


def numbers_of_ranks(text: str) -> tuple[int, ...]:
    """Raises: ConfigError unless it is whole numbers above zero, separated by commas."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise ConfigError(f"--ranks: got {text!r}; expected a number of ranks, or several as 1,2,4")
    return tuple(int(word) for word in words)


def print_spread(config: TrainConfig, ranks: Sequence[int], on: Accelerator, *, as_json: bool) -> None:
    """One plan in full, or several side by side."""
    plans = growth(counts_for_ranks(config, TYPED), ranks, on)
    if as_json:
        facts = plans[0].to_json() if len(plans) == 1 else {"plans": [plan.to_json() for plan in plans]}
        print_facts("", facts, as_json=True)
    elif len(plans) == 1:
        title = f"Plan of {config.out} on {ranks[0]} × {on.name}"
        print_facts(title, plans[0].to_json(), as_json=False, shown=shown(plans[0]))
    else:
        columns = ["ranks", "time", "harvest", "steps", "exchange", "received a step", "memory a rank", "host, rank 0"]
        print_grid(f"Plan of {config.out} on {on.name}", columns, [_row(plan) for plan in plans])
        print_facts("", {}, as_json=False, shown={"!": "does not fit", "basis": _basis(plans[0])})


def shown(plan: SpreadPlan) -> dict[str, str]:
    """A plan as a person reads it."""
    parts = ", ".join(f"{name} {duration(seconds)}" for name, seconds in plan.seconds_by.items())
    memory = ", ".join(f"{name} {size(n_bytes)}" for name, n_bytes in plan.memory_by.items())
    exchange = ", ".join(f"{name} {size(n_bytes)}" for name, n_bytes in plan.exchange_by.items())
    flops = ", ".join(f"{name} {flops:.3g}" for name, flops in plan.flops_by.items())
    host = f"{size(plan.host_bytes)} while it writes a checkpoint, of {size(plan.host_available_bytes)}"
    return {
        "tokens": f"{plan.n_tokens:,} in {plan.n_steps:,} steps",
        "parameters": f"{plan.n_parameters:,}",
        "time": f"{duration(plan.seconds)} ({parts})",
        "memory of a rank": f"{size(plan.memory_bytes)} of {size(plan.memory_available_bytes)} ({memory})"
        + ("" if plan.memory_bytes <= plan.memory_available_bytes else ": DOES NOT FIT"),
        "memory of rank 0's host": host + ("" if plan.host_bytes <= plan.host_available_bytes else ": DOES NOT FIT"),
        "received by a rank": f"{size(plan.exchange_bytes)} a step ({exchange}); {size(plan.aux_exchange_bytes)} more "
        "while many features are dead",
        "disk": f"{size(plan.disk_bytes)} kept, {size(plan.disk_peak_bytes)} at worst",
        "operations": flops,
        "basis": _basis(plan),
    }


def _row(plan: SpreadPlan) -> list[str]:
    fits = "" if plan.memory_bytes <= plan.memory_available_bytes else " !"
    times = [plan.seconds, *(plan.seconds_by[name] for name in ("harvest", "steps", "exchange"))]
    sizes = [size(plan.exchange_bytes), size(plan.memory_bytes) + fits, size(plan.host_bytes)]
    return [str(plan.n_ranks), *(duration(seconds) for seconds in times), *sizes]


def _basis(plan: SpreadPlan) -> str:
    return f"counted, nothing was run. {plan.accelerator}: {plan.source}. Not measured: {', '.join(plan.not_measured)}"
