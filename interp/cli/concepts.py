"""`interp concepts`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from interp.cli.evaluate import COUNT
from interp.cli.output import json_option, print_facts, print_grid
from interp.recording import progress_of_stages
from interp.storage import make_folder, write_json
from interp.studies.concept_runs import LEARNED, NEURONS, ConceptStudy, run_concepts
from probes.benchmark_rows import BAG_OF_TOKENS, DENSE, FEATURES, MAJORITY, ORACLE, RANDOM, Pooled
from probes.concept_benchmarks import MEASURES
from probes.ravel import WHOLE

_EXAMPLES = """\b
Examples:
  interp concepts runs/quickstart                                        everything, on the bundled concepts
  interp concepts runs/seed_0 runs/seed_1 runs/seed_2 --measures scr,tpp   error bars over seeds
  interp concepts runs/quickstart --concepts mine.yaml --json --out concepts.json
"""
_SHORT = {measure.lower().replace(" ", "-").replace("targeted-", ""): measure for measure in MEASURES}
_ARMS = (FEATURES, RANDOM, NEURONS, ORACLE, WHOLE, DENSE, BAG_OF_TOKENS, MAJORITY)


class _Measures(click.ParamType[tuple[str, ...]]):
    name = "NAME,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        named = [part.strip().lower() for part in str(value).split(",") if part.strip()]
        if unknown := [part for part in named if part not in _SHORT]:
            self.fail(f"got {unknown[0]!r}; expected some of {', '.join(_SHORT)}", param, ctx)
        return tuple(_SHORT[part] for part in dict.fromkeys(named)) or MEASURES


@click.command("concepts", epilog=_EXAMPLES)
@click.argument("run_folders", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--concepts",
    "concepts_file",
    type=click.Path(path_type=Path),
    help="File of concepts (.jsonl or .yaml; probes/concepts.py says how) instead of the bundled ones.",
)
@click.option(
    "--measures",
    type=_Measures(),
    default=MEASURES,
    help=f"What to measure, comma separated: {', '.join(_SHORT)}. Everything by default.",
)
@click.option(
    "--tokens", default=4000, show_default=True, type=COUNT, help="Tokens of text that erasure is charged on."
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**31 - 1), help="Seed of draws.")
@click.option("--model", "model_name", help="The runs' model if it has moved; its content must be the same.")
@click.option("--out", type=click.Path(path_type=Path), help="File to write the figures to, as JSON.")
@json_option
def command(
    run_folders: tuple[Path, ...],
    concepts_file: Path | None,
    measures: tuple[str, ...],
    out: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """What SAEs hold of concepts that are known: k-sparse probing, absorption, SCR, TPP, RAVEL, erasure.

    Several RUNs of one config with other seeds give means with standard deviations; one gives intervals over words.
    Beside the features stand others that fire as often, the neurons themselves, and an oracle that knows the concept's
    direction. Whether the model holds a concept at all is told first.
    """
    if out is not None:
        make_folder(out.parent)
    with progress_of_stages() as tell:
        study = run_concepts(run_folders, concepts_file=concepts_file, measures=measures, on_progress=tell, **options)
    if out is not None:
        write_json(out, study.to_json())
    if as_json:
        print_facts("", study.to_json(), as_json=True)
    else:
        _print(study, measures)


def _print(study: ConceptStudy, measures: Sequence[str]) -> None:
    absent = [name for name, held in study.arms[LEARNED].represented.items() if not held]
    if absent:
        print(f"Not held by the model itself (a dense probe does not beat tokens or chance): {', '.join(absent)}\n")
    n = study.arms[LEARNED].n_dictionaries
    spread = f"mean ± sd over {n} seeds" if n > 1 else "95% interval over words"
    for measure in measures:
        tables: dict[str, dict[tuple[str, str], dict[str, Pooled]]] = {}
        for arm, row in study.rows(measure):
            at = "" if row.n_features is None else f"{row.n_features}"
            tables.setdefault(row.quantity, {}).setdefault((row.concept, at), {})[arm] = row
        for quantity, held in tables.items():
            _print_table(f"{measure}: {quantity} ({spread})", held)


def _print_table(title: str, held: Mapping[tuple[str, str], Mapping[str, Pooled]]) -> None:
    """One line a concept and number of features; what does not depend on that number stands in each of its lines."""
    of_concept = {concept: found for (concept, at), found in held.items() if not at}
    numbered = {key: found for key, found in held.items() if key[1]}
    lines = {key: {**of_concept.get(key[0], {}), **found} for key, found in (numbered or held).items()}
    arms = [arm for arm in _ARMS if any(arm in found for found in lines.values())]
    columns = ("", *(("n",) if numbered else ()), *arms)
    rows = [
        (concept, *((at,) if numbered else ()), *(_text(found.get(arm)) for arm in arms))
        for (concept, at), found in lines.items()
    ]
    print_grid(title, columns, rows)


def _text(row: Pooled | None) -> str:
    if row is None:
        return ""
    if row.mean != row.mean:
        return "not defined"
    if row.sd is not None:
        return f"{row.mean:.3f} ±{row.sd:.3f}"
    if row.interval is not None and len(row.seeds) == 1 and row.arm in (FEATURES, RANDOM):
        return f"{row.mean:.3f} ({row.interval[0]:.2f}–{row.interval[1]:.2f})"
    return f"{row.mean:.3f}"
