"""Rate against distortion as a page: the figures, architectures at matched bits, and every dictionary."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from statistics import fmean

from dashboards.analysis_page import AnalysisPage, FigurePart, TablePart, render_analysis
from dashboards.rate_view import (
    chosen_told,
    cost_figure,
    dead_figure,
    detection_figure,
    probing_figure,
    rate_figure,
    title,
)
from saes.rate_arms import MERITS, SeedGroup, Spread
from saes.rate_curve import CHOSEN_WITHIN
from saes.rate_results import Matched, RateDistortion, written

MATCHED_BITS = (16.0, 32.0, 64.0, 128.0)


def rate_page(found: RateDistortion) -> str:
    """Figures and tables as one page."""
    about = found.provenance
    page = AnalysisPage(
        name="Rate and distortion",
        about=" · ".join((Path(str(about.get("model", {}).get("name", ""))).name, str(about.get("hook", "")))),
        lead=_LEAD,
        headline=[
            ("dictionaries", f"{len(found.groups())}"),
            ("seeds", f"{len({arm.seed for arm in found.arms})}"),
            ("text", f"{about.get('n_tokens', 0):,} tokens of {about.get('n_documents', 0):,} documents"),
        ],
        parts=[_rate_part(found), _matched_part(found), *_measured_parts(found), _arms_part(found)],
        command=str(about.get("command", "")),
        provenance=[(key, str(about.get(key))) for key in ("hook", "n_tokens", "ce_tokens", "seed", "commit")],
    )
    return render_analysis(page)


_LEAD = (
    "A token's code is told as its active features and their values. Features: by the cheapest of three coders (their "
    "number and then which set of so many; each on or off by its own frequency; one after the other by their "
    "frequencies), the parts of a grouped, residual or latent codebook apart. Values: by a uniform quantiser between "
    "each feature's smallest and largest value, the cells entropy coded; codebooks have none. What both ends know is "
    "not counted: the dictionary, frequencies, ranges. Frequencies and ranges are those of the same text."
)


def _rate_part(found: RateDistortion) -> FigurePart:
    note = (
        "lines: the points that none of the same architecture beats, over sparsities and quantisers; the mean over "
        "seeds, with one standard deviation"
    )
    return FigurePart("rate", "Explained variance by bits", note, lambda theme: rate_figure(found, theme), 480)


def _measured_parts(found: RateDistortion) -> list[FigurePart]:
    """Figures of what was measured beside explained variance."""
    chosen = f"each with the coarsest quantiser that loses at most {CHOSEN_WITHIN} of explained variance"
    words = f"mean over {found.provenance.get('concepts')} concepts, words held out"
    text = "median over features, on documents of which nothing was shown"
    parts = []
    if any(arm.ce_delta is not None for arm in found.arms):
        parts.append(FigurePart("cost", "What it costs the model", chosen, partial(cost_figure, found), 420))
    if any(arm.probing for arm in found.arms):
        parts.append(FigurePart("probing", "What one feature tells", words, partial(probing_figure, found), 380))
        several = partial(probing_figure, found, k=5)
        parts.append(FigurePart("probing5", "What five features tell", words, several, 380))
    if any(arm.detection_auc is not None for arm in found.arms):
        detection = partial(detection_figure, found)
        parts.append(FigurePart("detection", "What examples tell of a feature", text, detection, 380))
    dead = "features that fire on none of the tokens"
    return [*parts, FigurePart("dead", "Dead features", dead, partial(dead_figure, found), 320)]


def _matched_part(found: RateDistortion) -> TablePart:
    rows = [
        _matched_row(found, one)
        for bits in MATCHED_BITS
        for one in found.matched(bits)
        if one.explained_variance is not None or one.ce_delta is not None
    ]
    note = (
        "EV and ΔCE between the dictionaries next to so many bits; the rest of the dictionary nearest to them that "
        "explains more than every cheaper one. ±: standard deviation over seeds."
    )
    columns = ("bits", "architecture", "EV", "ΔCE, nats", "nearest", "its bits", "dead", *measured_columns(found))
    return TablePart("matched", "At matched bits", note, columns, rows, text=(0, 1, 4))


TOLD = {
    "1 feature": ("probe_k1", ".3f"),
    "5 features": ("probe_k5", ".3f"),
    "detection AUC": ("detection_auc", ".3f"),
    "AUC of": ("detection_measured", ".0%"),
}
"""Columns of what features tell: which merit, written how."""


def measured_columns(found: RateDistortion) -> list[str]:
    """Names of the columns of what features tell, as far as it was measured."""
    return [name for name, (merit, _) in TOLD.items() if any(MERITS[merit](arm) is not None for arm in found.arms)]


def _matched_row(found: RateDistortion, one: Matched) -> list[str]:
    told = [written(one.explained_variance, ".4f"), written(one.ce_delta, "+.4f"), " or ".join(one.nearest)]
    return [f"{one.bits:.0f}", title(one.arm), *told, f"{one.nearest_bits.mean:.1f}", *merits_row(found, one.merits)]


def merits_row(found: RateDistortion, merits: Mapping[str, Spread | None]) -> list[str]:
    """The dead share, then what stands in `measured_columns`."""
    told = (TOLD[column] for column in measured_columns(found))
    return [written(merits["dead_share"], ".1%"), *(written(merits[merit], form) for merit, form in told)]


def _arms_part(found: RateDistortion) -> TablePart:
    columns = ("dictionary", "architecture", "features", "L0", "support bits", "values", "bits", "EV, exact", "EV",
               "ΔCE, nats", "dead", *measured_columns(found))  # fmt: skip
    rows = [_group_row(found, group) for group in found.groups()]
    note = "With the chosen quantiser; the mean over seeds ± their standard deviation."
    return TablePart("arms", "All dictionaries", note, columns, rows, text=(0, 1, 4, 5))


def _group_row(found: RateDistortion, group: SeedGroup) -> list[str]:
    coders = "/".join(dict.fromkeys(arm.curve.support.coder for arm in group.members))
    curves = [arm.curve for arm in group.members]
    support = f"{fmean(curve.support.bits for curve in curves):.1f} ({coders})"
    sizes = [f"{curves[0].d_sae:,}", f"{fmean(curve.l0 for curve in curves):.2f}", support, chosen_told(group)]
    exact = written(Spread.of(curve.explained_variance for curve in curves), ".4f")
    ev = written(Spread.of(curve.chosen.explained_variance for curve in curves), ".4f")
    ce = written(group.spread(lambda arm: arm.ce_delta), "+.4f")
    merits = {merit: group.spread(value) for merit, value in MERITS.items()}
    return [group.name, title(group.arm), *sizes, f"{group.bits:.1f}", exact, ev, ce, *merits_row(found, merits)]
