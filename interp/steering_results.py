"""What steering along a direction did: effect by strength, side effects, and the directions it is held against.

Axes: s strengths, c control directions, k controls whose side effects were measured.
"""

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from interp.effects import Estimate
from interp.errors import ArtifactError
from interp.storage import read_json, write_json

SCHEMA_VERSION = 1
BAND = (0.025, 0.975)
"""Quantiles of the control directions that a band spans."""


@dataclass(frozen=True, slots=True)
class SideEffects:
    """What steering does to text that it is not about.

    Shapes: kl, perplexity (s,); intervals over documents. Units: KL in nats a token, unsteered first.
    """

    kl: Estimate
    perplexity: Estimate
    unsteered_perplexity: float
    n_tokens: int
    n_documents: int


@dataclass(frozen=True, slots=True)
class ControlArm:
    """Directions of one kind that the steered one is held against, each as long as it.

    Shapes: effects (c, s), means over prompts; kl (k, s) on neutral text of the first k, or None; gap (s,) the steered
    direction's effect minus the mean of these, prompt by prompt, with its interval over clusters; slopes (c,).
    """

    name: str
    effects: Float[ndarray, "c s"]
    gap: Estimate
    slopes: Float[ndarray, " c"]
    kl: Float[ndarray, "k s"] | None = None

    def band(self) -> Float[ndarray, "2 s"]:
        """Where the middle 95% of the control directions lie."""
        return np.asarray(np.quantile(self.effects, BAND, axis=0))

    def p_values(self, effect: Float[ndarray, " s"]) -> Float[ndarray, " s"]:
        """Share of directions that do at least as much either way, the steered one counted in."""
        as_much = np.abs(self.effects) >= np.abs(effect)
        return np.asarray((1 + as_much.sum(0)) / (1 + self.effects.shape[0]))

    def p_slope(self, slope: float) -> float:
        """The same of the whole dose-response's slope."""
        return float((1 + (np.abs(self.slopes) >= abs(slope)).sum()) / (1 + self.slopes.shape[0]))


@dataclass(frozen=True, slots=True)
class SteeredText:
    """How a prompt goes on under one strength; 0 is the model as it is."""

    strength: float
    prompt: str
    text: str


@dataclass(frozen=True, slots=True)
class DoseResponse:
    """The change of an outcome by strength, with intervals over clusters of prompts, beside control directions.

    Shapes: strengths, effect.value (s,); slope is the mean finite difference over the strengths, its interval (2,).
    Units: strength 1 adds a vector of length `norm`; reference is the outcome's unsteered mean.
    """

    hook: str
    direction: str
    source: str
    norm: float
    outcome: str
    units: str
    strengths: Float[ndarray, " s"]
    effect: Estimate
    slope: Estimate
    reference: float
    n_prompts: int
    n_clusters: int
    arms: tuple[ControlArm, ...] = ()
    side_effects: SideEffects | None = None
    texts: tuple[SteeredText, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        side = self.side_effects
        return {
            "schema_version": SCHEMA_VERSION,
            "kind": "dose_response",
            **{name: getattr(self, name) for name in _PLAIN},
            "strengths": self.strengths.tolist(),
            "effect": _estimate(self.effect),
            "slope": _estimate(self.slope),
            "arms": [_arm(arm, self) for arm in self.arms],
            "side_effects": None
            if side is None
            else {
                "kl": _estimate(side.kl),
                "perplexity": _estimate(side.perplexity),
                "unsteered_perplexity": side.unsteered_perplexity,
                "n_tokens": side.n_tokens,
                "n_documents": side.n_documents,
            },
            "texts": [{"strength": t.strength, "prompt": t.prompt, "text": t.text} for t in self.texts],
            "provenance": dict(self.provenance),
        }

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all.

        Raises: StorageError.
        """
        write_json(path, self.to_json())

    @staticmethod
    def load(path: Path) -> "DoseResponse":
        """Read what `save` wrote.

        Raises: ArtifactError if the file is missing, damaged or of another kind.
        """
        return DoseResponse.from_json(read_json(path), str(path))

    @staticmethod
    def from_json(held: Mapping[str, Any], where: str = "dose-response") -> "DoseResponse":
        """From `to_json`'s values.

        Raises: ArtifactError if they are of another kind or version.
        """
        if held.get("kind") != "dose_response" or held.get("schema_version") != SCHEMA_VERSION:
            raise ArtifactError(f"{where}: is no dose-response of version {SCHEMA_VERSION}; steer again")
        try:
            side = held["side_effects"]
            return DoseResponse(
                **{name: held[name] for name in _PLAIN},
                strengths=np.array(held["strengths"], dtype=np.float64),
                effect=_read_estimate(held["effect"]),
                slope=_read_estimate(held["slope"]),
                arms=tuple(_read_arm(arm) for arm in held["arms"]),
                side_effects=None if side is None else _read_side(side),
                texts=tuple(SteeredText(**text) for text in held["texts"]),
                provenance=held["provenance"],
            )
        except (KeyError, TypeError, ValueError):
            raise ArtifactError(f"{where}: is damaged; steer again") from None

    def _repr_html_(self) -> str:
        """Effect, interval, controls and side effect of each strength as a table."""
        head = ["strength", "effect", "95% interval", *(f"p, {arm.name}" for arm in self.arms)]
        head += ["KL", "perplexity"] if self.side_effects else []
        rows = "".join(f"<tr>{''.join(f'<td>{html.escape(c)}</td>' for c in row)}</tr>" for row in self.rows())
        caption = f"{self.direction} at {self.hook}: {self.outcome}, {self.n_prompts} prompts"
        heads = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
        return f"<table><caption>{html.escape(caption)}</caption><tr>{heads}</tr>{rows}</table>"

    def rows(self) -> list[tuple[str, ...]]:
        """The table's cells: strength, effect, interval, one p-value an arm, and side effects where measured."""
        p_values = [arm.p_values(self.effect.value) for arm in self.arms]
        side = self.side_effects
        found = []
        for i, strength in enumerate(self.strengths):
            cells = [signed(strength), f"{self.effect.value[i]:+.3f}", between(self.effect, i)]
            cells += ["–" if strength == 0 else f"{p[i]:.3f}" for p in p_values]
            cells += [] if side is None else [f"{side.kl.value[i]:.4f}", f"{side.perplexity.value[i]:.2f}"]
            found.append(tuple(cells))
        return found


_PLAIN = (
    "hook", "direction", "source", "norm", "outcome", "units", "reference", "n_prompts", "n_clusters",
)  # fmt: skip


def signed(strength: float) -> str:
    """A strength as it is written: with its sign, zero without."""
    return f"{strength:+g}" if strength else "0"


def between(estimate: Estimate, i: int | None = None) -> str:
    """An estimate's interval in words, at one place of it."""
    if estimate.interval is None:
        return "one cluster"
    low, high = estimate.interval if i is None else estimate.interval[:, i]
    return f"{float(low):+.3f} to {float(high):+.3f}"


def _arm(arm: ControlArm, of: DoseResponse) -> dict[str, Any]:
    return {
        "name": arm.name,
        "n": int(arm.effects.shape[0]),
        "effects": arm.effects.tolist(),
        "band": arm.band().tolist(),
        "gap": _estimate(arm.gap),
        "slopes": arm.slopes.tolist(),
        "p_values": arm.p_values(of.effect.value).tolist(),
        "p_slope": arm.p_slope(float(of.slope.value)),
        "kl": None if arm.kl is None else arm.kl.tolist(),
    }


def _read_arm(held: Mapping[str, Any]) -> ControlArm:
    kl = None if held["kl"] is None else np.array(held["kl"], dtype=np.float64)
    effects, slopes = (np.array(held[name], dtype=np.float64) for name in ("effects", "slopes"))
    return ControlArm(held["name"], effects, _read_estimate(held["gap"]), slopes, kl)


def _read_side(held: Mapping[str, Any]) -> SideEffects:
    kl, perplexity = _read_estimate(held["kl"]), _read_estimate(held["perplexity"])
    return SideEffects(kl, perplexity, held["unsteered_perplexity"], held["n_tokens"], held["n_documents"])


def _estimate(estimate: Estimate) -> dict[str, Any]:
    interval = None if estimate.interval is None else np.asarray(estimate.interval).tolist()
    return {"value": np.asarray(estimate.value).tolist(), "interval": interval}


def _read_estimate(held: Mapping[str, Any]) -> Estimate:
    interval = None if held["interval"] is None else np.array(held["interval"], dtype=np.float64)
    return Estimate(np.array(held["value"], dtype=np.float64), interval)
