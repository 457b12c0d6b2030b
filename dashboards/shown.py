"""Which figure shows which kind of result. Views are imported when one is asked for: some of them take a second."""

from importlib import import_module

import plotly.graph_objects as go

from dashboards.theme import Theme
from dashboards.titles import heading_of, titled
from interp.errors import ConfigError

# Result -> view, and the attributes of the result that the view takes instead of the whole.
_VIEWS: dict[str, tuple[str, str]] = {
    "interp.effects.EffectGrid": ("effects_view", "effects_figure"),
    "interp.circuits.Circuit": ("circuit_view", "circuit_figure"),
    "interp.faithfulness.FaithfulnessCurve": ("circuit_view", "faithfulness_figure"),
    "interp.attribution_check.AttributionCheck": ("circuit_view", "agreement_figure"),
    "saes.feature_statistics.FeatureStatistics": ("density_view", "density_figure"),
    "saes.planning.spread_plan.SpreadPlan": ("spread_plan_view", "growth_figure"),
    "saes.rate_results.RateDistortion": ("rate_view", "rate_figure"),
    "interp.steering_results.DoseResponse": ("steering_view", "dose_response_figure"),
    "interp.causal_sweep.CausalSweep": ("steering_view", "causal_sweep_figure"),
    "probes.contrast.Contrast": ("contrast_view", "volcano_figure"),
    "probes.disentanglement_report.DisentanglementReport": ("disentanglement_view", "metrics_figure"),
    "probes.disentanglement.Disentanglement": ("disentanglement_view", "single_figure"),
    "saes.scores.Evaluation": ("prefix_view", "evaluation_figure"),
    "probes.probe_results.ProbeReport": ("probe_view", "accuracy_figure"),
    "probes.probe_results.Confusion": ("probe_view", "confusion_figure"),
    "probes.probe_results.DirectionMap": ("probe_view", "direction_figure"),
    "probes.probe_results.ScoredText": ("probe_view", "token_figure"),
    "interp.lenses.grid.LensGrid": ("lens_view", "grid_figure"),
    "interp.lenses.table.LensTable": ("lens_view", "precision_figure"),
    "interp.lenses.divergence.LensDivergence": ("lens_view", "divergence_figure"),
    "interp.codebooks.prompt_grid.PromptGrid": ("codebook_view", "grid_figure"),
    "interp.codebooks.inspected.Inspection": ("codebook_view", "detection_figure"),
    "interp.codebooks.steered.CodeSteering": ("codebook_view", "steering_figure"),
    "interp.codebooks.tokfsm_results.TokFSMStudy": ("tokfsm_view", "precision_figure"),
    "interp.codebooks.language_results.CodebookLanguage": ("codebook_language_view", "steering_figure"),
}
_PARTS: dict[str, tuple[str, ...]] = {
    "AttributionCheck": ("labels", "estimated", "measured"),
    "FeatureStatistics": ("density", "level"),
}
_SEVERAL = ("FaithfulnessCurve", "SpreadPlan")
"""Results whose view draws any number of them together."""
SHOWN = tuple(sorted({name.rpartition(".")[2] for name in _VIEWS}))
"""Kinds of results that have a figure."""


def figure_of(result: object, theme: Theme) -> go.Figure | None:
    """The figure of a result below its heading; None if there is none of its kind.

    Raises: ConfigError if the result has nothing to draw.
    """
    kind = type(result)
    found = _VIEWS.get(f"{kind.__module__}.{kind.__qualname__}")
    if found is None:
        return None
    module, name = found
    draw = getattr(import_module(f"dashboards.{module}"), name)
    figure: go.Figure = draw(*_arguments(result, kind.__name__), theme)
    heading = heading_of(result)
    return figure if heading is None else titled(figure, heading, theme)


def _arguments(result: object, name: str) -> tuple[object, ...]:
    if name in _PARTS:
        return tuple(getattr(result, part) for part in _PARTS[name])
    if name in _SEVERAL:
        return ((result,),)
    if name != "ProbeReport":
        return (result,)
    attributes = result.attributes  # type: ignore[attr-defined]
    if not attributes:
        raise ConfigError(
            "got a ProbeReport without rows; expected one of at least one attribute; run the probes again"
        )
    # Attributes of a probe report are drawn one at a time.
    return (result, attributes[0])
