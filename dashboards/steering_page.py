"""A steered direction as one HTML file that opens without network."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from dashboards.analysis_page import AnalysisPage, FigurePart, Part, TablePart, render_analysis
from dashboards.steering_view import causal_sweep_figure, dose_response_figure, trade_off_figure
from interp.causal_sweep import CausalSweep
from interp.steering_results import DoseResponse, between, signed
from interp.storage import write_text

DOSE_NOTE = (
    "Whiskers: 95% over clusters of prompts. Bands: the middle 95% of control directions of the same length. p is the "
    "share of controls that move the outcome at least as much either way, the direction itself counted in."
)


def write_steering_page(result: DoseResponse, out: Path) -> Path:
    """Write the page and give its path.

    Raises: StorageError if it cannot be written.
    """
    write_text(out, steering_page(result))
    return out


def steering_page(result: DoseResponse) -> str:
    """The page as text."""
    provenance = result.provenance
    page = AnalysisPage(
        name=f"Steering: {result.direction}",
        about=f"{provenance.get('model', '')} · {result.hook}",
        lead=_lead(result),
        headline=headline(result),
        parts=dose_response_parts(result),
        command=str(provenance.get("command", "")),
        provenance=[(name, str(value)) for name, value in provenance.items() if name != "command"],
    )
    return render_analysis(page)


def write_causal_sweep_page(sweep: CausalSweep, out: Path, *, about: str, command: str) -> Path:
    """Write the page of an extreme-value sweep and give its path.

    Raises: StorageError if it cannot be written.
    """
    low, high = sweep.values[0], sweep.values[-1]
    parts: list[Part] = [
        FigurePart(
            "ate", "Effect by value", "Mean outcome with the code at this value, less that of the prompts left alone.",
            partial(causal_sweep_figure, sweep), 380,
        )
    ]  # fmt: skip
    for index, outcome in enumerate(sweep.outcomes):
        columns = ("code", "slope", "95% interval", "monotone")
        note = "Monotone: net over total variation, 1 where the outcome only rises or only falls."
        parts.append(TablePart(f"slope-{index}", f"Slope of {outcome}", note, columns, sweep.rows(index), text=(0, 2)))
    strongest = zip(sweep.outcomes, sweep.strongest(), strict=True)
    page = AnalysisPage(
        name="Extreme-value causal sweep",
        about=about,
        lead=f"Each code set to {len(sweep.values)} values from {low:g} to {high:g} at the last token of "
        f"{sweep.n_samples} prompts, the others as they are. Such values do not occur: what they show is direction.",
        headline=[(f"strongest on {outcome}", code) for outcome, code in strongest],
        parts=parts,
        command=command,
        provenance=[("prompts", str(sweep.n_samples))],
    )
    write_text(out, render_analysis(page))
    return out


def headline(result: DoseResponse) -> list[tuple[str, str]]:
    """The three figures that a reader wants first."""
    found = [("slope", f"{float(result.slope.value):+.3f}")]
    found += [(f"p, {arm.name}", f"{arm.p_slope(float(result.slope.value)):.3f}") for arm in result.arms]
    if result.side_effects is not None:
        found.append(("largest KL", f"{result.side_effects.kl.value.max():.3f}"))
    return found


def dose_response_parts(result: DoseResponse, *, name: str = "dose", title: str = "") -> list[Part]:
    """Figures and tables of one dose-response, for a page of its own or of a study."""
    heading = title or f"Dose-response of {result.direction}"
    parts: list[Part] = [
        FigurePart(name, heading, DOSE_NOTE, partial(dose_response_figure, result), 360),
        TablePart(
            f"{name}-table",
            "By strength",
            "",
            ("strength", "effect", "95% interval", *(f"p, {arm.name}" for arm in result.arms), *_side_columns(result)),
            result.rows(),
        ),
    ]
    if result.side_effects is not None:
        side = result.side_effects
        note = (
            f"KL and perplexity on {side.n_tokens:,} tokens of {side.n_documents} held-out documents, steered at every "
            f"token but the first; perplexity unsteered {side.unsteered_perplexity:.2f}. A direction worth having lies "
            "up or down from the controls at the same KL."
        )
        parts.append(FigurePart(f"{name}-cost", "Effect and its cost", note, partial(trade_off_figure, result), 360))
    if result.texts:
        rows = [(signed(text.strength), text.prompt, text.text) for text in result.texts]
        columns, words = ("strength", "prompt", "goes on with"), (1, 2)
        parts.append(TablePart(f"{name}-texts", "Texts, before and after", _TEXTS_NOTE, columns, rows, text=words))
    return parts


_TEXTS_NOTE = "Greedy: the likeliest next token each time. Strength 0 is the model as it is."


def _side_columns(result: DoseResponse) -> Sequence[str]:
    return ("KL", "perplexity") if result.side_effects is not None else ()


def _lead(result: DoseResponse) -> str:
    return (
        f"{result.direction} ({result.source}) added at {result.hook}: each unit of strength changes "
        f"{result.outcome} by {float(result.slope.value):+.3f} {result.units} on average "
        f"({between(result.slope)}, 95% over {result.n_clusters} clusters of {result.n_prompts} prompts; unsteered "
        f"{result.reference:+.3f})."
    )
