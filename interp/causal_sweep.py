"""The extreme-value causal sweep: one code set over a wide range, the others left as they are.

Axes: n samples, f codes, v values, y outcomes.
"""

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from interp.code import FeatureDictionary
from interp.effects import Estimate, mean_effect
from interp.errors import ArtifactError, ConfigError
from interp.feature_edits import code_edit, single_hook
from interp.forward import last_outputs
from interp.hooks import capture
from interp.models import Model
from interp.outcomes import Outcome
from interp.prompts import Prompts
from interp.steering import reach
from interp.storage import read_json, write_json

SCHEMA_VERSION = 1
SWEEP_VALUES = tuple(np.linspace(-12.5, 12.5, 40).tolist())
"""Forty values, far beyond what an encoder gives."""

Respond = Callable[[Float[Tensor, "m f"]], Float[Tensor, "m y"]]
"""Outcomes of codes, row by row; rows come as whole copies of the samples, one after another."""


@dataclass(frozen=True, slots=True)
class CausalSweep:
    """Average treatment effect of each code's value on each outcome, against the samples as they are.

    Shapes: values (v,); ate.value (f, v, y), its interval (2, f, v, y) over clusters of samples; slope.value (f, y) the
    mean finite difference over the values; monotone (f, y), net over total variation: 1 where it only rises or falls.
    """

    values: Float[ndarray, " v"]
    codes: tuple[str, ...]
    outcomes: tuple[str, ...]
    ate: Estimate
    slope: Estimate
    monotone: Float[ndarray, "f y"]
    n_samples: int

    def strongest(self) -> tuple[str, ...]:
        """For each outcome, the code with the largest absolute slope."""
        return tuple(self.codes[i] for i in np.abs(self.slope.value).argmax(0))

    def rows(self, outcome: int) -> list[tuple[str, ...]]:
        """Code, slope, its interval and monotony for one outcome, the largest slopes first."""
        order = np.argsort(-np.abs(self.slope.value[:, outcome]), kind="stable").tolist()
        between = self.slope.interval
        return [
            (
                self.codes[code],
                f"{self.slope.value[code, outcome]:+.4f}",
                "one cluster" if between is None else " to ".join(f"{side[code, outcome]:+.4f}" for side in between),
                f"{self.monotone[code, outcome]:.2f}",
            )
            for code in order
        ]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "schema_version": SCHEMA_VERSION,
            "kind": "causal_sweep",
            "values": self.values.tolist(),
            "codes": list(self.codes),
            "outcomes": list(self.outcomes),
            **{name: _estimate(getattr(self, name)) for name in ("ate", "slope")},
            "monotone": self.monotone.tolist(),
            "n_samples": self.n_samples,
        }

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all.

        Raises: StorageError.
        """
        write_json(path, self.to_json())

    @staticmethod
    def load(path: Path) -> "CausalSweep":
        """Read what `save` wrote.

        Raises: ArtifactError if the file is missing, damaged or of another kind.
        """
        held = read_json(path)
        if held.get("kind") != "causal_sweep" or held.get("schema_version") != SCHEMA_VERSION:
            raise ArtifactError(f"{path}: is no causal sweep of version {SCHEMA_VERSION}; run the sweep again")
        try:
            return CausalSweep(
                np.array(held["values"]),
                tuple(held["codes"]),
                tuple(held["outcomes"]),
                _read(held["ate"]),
                _read(held["slope"]),
                np.array(held["monotone"], dtype=np.float64),
                held["n_samples"],
            )
        except (KeyError, TypeError, ValueError):
            raise ArtifactError(f"{path}: is damaged; run the sweep again") from None

    def _repr_html_(self) -> str:
        """Slope of every code on every outcome as a table."""
        head = "".join(f"<th>{html.escape(name)}</th>" for name in ("code", *self.outcomes))
        rows = "".join(
            f"<tr><td>{html.escape(code)}</td>{''.join(f'<td>{value:+.4g}</td>' for value in slopes)}</tr>"
            for code, slopes in zip(self.codes, self.slope.value, strict=True)
        )
        caption = f"Mean finite difference over {self.values[0]:g} to {self.values[-1]:g}, {self.n_samples} samples"
        return f"<table><caption>{caption}</caption><tr>{head}</tr>{rows}</table>"


def causal_sweep(
    respond: Respond,
    codes: Float[Tensor, "n f"],
    *,
    swept: Sequence[int] | None = None,
    values: Sequence[float] = SWEEP_VALUES,
    clusters: Int[ndarray, " n"] | None = None,
    code_names: Sequence[str] | None = None,
    outcome_names: Sequence[str] | None = None,
) -> CausalSweep:
    """Set each code in turn to each value in every sample, the others as they are, and see what the outcomes do.

    ATE(t) is the mean outcome with the code at t minus the mean outcome of the samples untouched.

    Raises: ConfigError for fewer than two values, or a code that is not there.
    Source: causal disentanglement by extreme values (CDEV): 40 values in ±12.5.
    """
    swept = list(range(codes.shape[1])) if swept is None else list(swept)
    if len(values) < 2 or list(values) != sorted(set(values)):
        raise ConfigError(f"values: got {list(values)[:4]}…; expected two or more, ascending")
    if outside := [f for f in swept if not 0 <= f < codes.shape[1]]:
        raise ConfigError(f"got code {outside[0]}; expected 0 to {codes.shape[1] - 1}")
    n = codes.shape[0]
    clusters = np.arange(n) if clusters is None else clusters
    with torch.no_grad():
        baseline = respond(codes)
        found = torch.stack([_swept(respond, codes, f, values) - baseline for f in swept])
    # (f, v, y, n)
    effects = found.double().cpu().numpy().transpose(0, 1, 3, 2)
    steps = np.diff(effects.mean(3), axis=1)
    total = np.abs(steps).sum(1)
    monotone = np.abs(steps.sum(1)) / np.where(total > 0, total, 1.0)
    slopes = (effects[:, -1] - effects[:, 0]) / (values[-1] - values[0])
    return CausalSweep(
        np.array(values, dtype=np.float64),
        tuple(code_names) if code_names else tuple(f"code {f}" for f in swept),
        tuple(outcome_names) if outcome_names else tuple(f"outcome {y}" for y in range(baseline.shape[1])),
        mean_effect(effects, clusters),
        mean_effect(slopes, clusters),
        monotone,
        n,
    )


def _swept(
    respond: Respond, codes: Float[Tensor, "n f"], feature: int, values: Sequence[float]
) -> Float[Tensor, "v n y"]:
    found = []
    for value in values:
        treated = codes.clone()
        treated[:, feature] = value
        found.append(respond(treated))
    return torch.stack(found)


def model_response(
    model: Model,
    prompts: Prompts,
    dictionary: FeatureDictionary,
    outcomes: Sequence[Outcome],
    *,
    position: int | str = "last",
) -> tuple[Float[Tensor, "p f"], Respond]:
    """The prompts' own codes at one place, and what a model's outcomes are when other codes stand there.

    What the dictionary does not reconstruct stays as it is.

    Raises: ConfigError for a dictionary of several hooks.
    """
    hook = single_hook(dictionary)
    keep = reach(model, prompts, position)
    acts = capture(model, prompts.token_ids, [hook], None if model.causal else prompts.real)[hook]
    with torch.no_grad():
        own = dictionary.encode(acts[keep.to(acts.device)]).dense()

    def respond(codes: Float[Tensor, "m f"]) -> Float[Tensor, "m y"]:
        copies = codes.shape[0] // len(prompts)
        held = prompts.repeat(copies)
        with torch.no_grad():
            outputs = last_outputs(model, held, {hook: code_edit(dictionary, codes, keep, own.repeat(copies, 1))})
        return torch.stack([outcome(outputs, held) for outcome in outcomes], dim=1)

    return own, respond


def _estimate(estimate: Estimate) -> dict[str, Any]:
    return {
        "value": estimate.value.tolist(),
        "interval": None if estimate.interval is None else estimate.interval.tolist(),
    }


def _read(held: dict[str, Any]) -> Estimate:
    interval = None if held["interval"] is None else np.array(held["interval"], dtype=np.float64)
    return Estimate(np.array(held["value"], dtype=np.float64), interval)
