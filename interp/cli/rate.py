"""`interp rate`."""

from pathlib import Path
from typing import Any

import click

from dashboards.rate_page import MATCHED_BITS, measured_columns, merits_row, rate_page
from dashboards.rate_view import title
from interp.cli.evaluate import COUNT, SEED
from interp.cli.output import json_option, make_place, print_facts, print_grid, print_page
from interp.recording import progress_of_stages
from interp.storage import write_text
from interp.studies.rate_runs import RateSettings, run_rates
from saes.rate_arms import MERITS, SeedGroup, Spread
from saes.rate_curve import VALUE_BITS
from saes.rate_results import Matched, RateDistortion, written

_EXAMPLES = """\b
Examples:
  interp sweep configs/sweep_rate_distortion.yaml          SAEs and codebooks of the same activations, three seeds
  interp rate runs/rate --page rate.html                   all of them: bits per token, EV, ΔCE
  interp rate runs/rate --probe --detection-tokens 100k --page rate.html
  interp rate runs/rate runs/kmeans runs/pca --probe       beside baselines; what 1 and 5 features tell of concepts
  interp rate runs/quickstart --value-bits 0,2,4 --json
"""


class _ValueBits(click.ParamType[tuple[int, ...]]):
    name = "N,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",") if part.strip()]
        if not parts or not all(part.isdigit() and int(part) <= 24 for part in parts):
            self.fail(f"got {value!r}; expected numbers of bits from 0 to 24, such as 0,2,4,8", param, ctx)
        return tuple(sorted({int(part) for part in parts}))


@click.command("rate", epilog=_EXAMPLES)
@click.argument("run_folders", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--tokens",
    default="20k",
    show_default=True,
    type=COUNT,
    help="Held-out tokens to count bits and EV on, in whole batches.",
)
@click.option("--ce-tokens", default="10k", show_default=True, type=COUNT, help="Held-out tokens to measure ΔCE on.")
@click.option("--no-ce", is_flag=True, help="Leave ΔCE out, which takes most of the time.")
@click.option("--value-bits", type=_ValueBits(), default=VALUE_BITS, help="Bits a value to try.  [0,1,2,3,4,5,6,8]")
@click.option("--probe", is_flag=True, help="Also k-sparse probing of the bundled concepts with 1 and 5 features.")
@click.option("--detection-tokens", type=COUNT, help="Also detection AUC, from a pass of so many tokens each.")
@click.option("--null-arms", is_flag=True, help="Also permuted decoders and matched random directions of each run.")
@click.option("--seed", default=0, show_default=True, type=SEED, help="Seed of draws.")
@click.option("--model", "model_name", help="The runs' model if it has moved; its content must be the same.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda (cuda:1 for the second GPU).")
@click.option("--page", type=click.Path(path_type=Path), help="Write figures and tables as one HTML file.")
@click.option("--out", type=click.Path(path_type=Path), help="File to write the figures to, as JSON.")
@json_option
def command(
    run_folders: tuple[Path, ...],
    model_name: str | None,
    device: str,
    page: Path | None,
    out: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """How many bits a token's code takes, and what they explain: SAEs, codebooks and baselines on equal terms.

    RUNs, or folders of sweeps, of one model and hook. Bits tell which features are active (the cheapest of three
    coders; a number that varies is paid for) and their values, quantised to several precisions, with explained variance
    measured anew after quantising; a codebook's codes have no values. ΔCE is measured with the coarsest quantiser that
    loses little. Dictionaries are compared at matched bits, beside the best code of a Gaussian.
    """
    for flag, path in (("--page", page), ("--out", out)):
        if path is not None:
            make_place(path, flag)
    with progress_of_stages() as tell:
        found = run_rates(
            run_folders, _settings(**options), model_name=model_name, device=device, on_progress=tell
        )  # fmt: skip
    if out is not None:
        found.save(out)
    if page is not None:
        write_text(page, rate_page(found))
    if as_json:
        print_facts("", found.to_json(), as_json=True)
    else:
        _print(found)
        if page is not None:
            print_page(page)


def _settings(*, tokens: int, ce_tokens: int, no_ce: bool, detection_tokens: int | None, **others: Any) -> RateSettings:
    unmeasured = 0 if no_ce else ce_tokens
    return RateSettings(tokens=tokens, ce_tokens=unmeasured, detection_tokens=detection_tokens or 0, **others)


def _print(found: RateDistortion) -> None:
    tells = measured_columns(found)
    columns = ["", "L0", "support", "values", "bits", "EV", "ΔCE", "dead", *tells]
    print_grid("Bits per token with the chosen quantiser", columns, [_group_line(found, one) for one in found.groups()])
    for at in MATCHED_BITS:
        held = [one for one in found.matched(at) if one.explained_variance is not None]
        if held:
            title_of = f"At {at:.0f} bits per token; from dead on, of the nearest dictionary at its bits"
            columns = ["", "EV", "ΔCE", "its bits", "dead", *tells]
            print_grid(title_of, columns, [_matched_line(found, one) for one in held])


def _group_line(found: RateDistortion, group: SeedGroup) -> list[str]:
    curves = [arm.curve for arm in group.members]
    told = (
        [curve.l0 for curve in curves],
        [curve.support.bits for curve in curves],
        [curve.chosen.values for curve in curves],
        [curve.chosen.bits for curve in curves],
    )
    bits = [written(Spread.of(values), ".1f") for values in told]
    explained = written(Spread.of(curve.chosen.explained_variance for curve in curves), ".4f")
    cost = written(group.spread(lambda arm: arm.ce_delta), "+.4f")
    merits = {merit: group.spread(value) for merit, value in MERITS.items()}
    return [group.name, *bits, explained, cost, *merits_row(found, merits)]


def _matched_line(found: RateDistortion, one: Matched) -> list[str]:
    bits = written(one.nearest_bits, ".1f")
    explained, cost = written(one.explained_variance, ".4f"), written(one.ce_delta, "+.4f")
    return [title(one.arm), explained, cost, bits, *merits_row(found, one.merits)]
