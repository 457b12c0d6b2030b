"""What a run's own config promises: what its metrics are held to."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp.config import read_yaml
from interp.errors import ConfigError

PENALISED = ("standard", "gated", "jumprelu")
"""Architectures whose L0 a penalty holds down; the others select k features whatever happens."""
LEARNT_THRESHOLD = ("batch_topk", "matryoshka", "jumprelu")
"""Architectures whose codes at inference hang on a threshold found in training."""


@dataclass(frozen=True, slots=True)
class Expected:
    """Settings that tell a healthy metric from a sick one; None where they are not known."""

    n_steps: int | None = None
    d_sae: int | None = None
    k: float | None = None
    """Active features per token that the architecture sets."""
    l0_target: float | None = None
    """Active features per token that a controller works towards."""
    has_threshold: bool = False
    clip_norm: float = 0.0
    """Zero: not clipped."""
    block_tokens: int = 0
    """Tokens harvested at a time: shorter stretches say nothing of the pace."""

    def progress(self, step: float | int) -> float | None:
        """Share of the run that is done."""
        return step / self.n_steps if self.n_steps else None


def expected_of(run_folder: Path) -> Expected:
    """What the config.yaml of a run promises; nothing where it cannot be read."""
    try:
        config = read_yaml(run_folder / "config.yaml")
    except ConfigError:
        return Expected()
    sae, shuffle = _mapping(config, "sae"), _mapping(config, "shuffle")
    tokens, batch = _number(config, "tokens"), _number(config, "batch_size")
    architecture, l0_target = sae.get("architecture"), _number(sae, "l0_target")
    penalised, k = architecture in PENALISED, _number(sae, "k")
    # As SAEConfig.l0_controlled; runs from before there was a switch name a weight, and were steered to a target alone.
    switch = sae.get("l0_control")
    unset = l0_target is not None or _number(sae, "l1_coefficient") is None
    steered = penalised and (unset if switch is None else switch)
    d_sae = _number(sae, "d_sae")
    return Expected(
        n_steps=int(tokens // batch) if tokens and batch else None,
        d_sae=int(d_sae) if d_sae else None,
        k=None if penalised else k,
        l0_target=(l0_target or k) if steered else None,
        has_threshold=architecture in LEARNT_THRESHOLD,
        clip_norm=_number(config, "clip_norm") or 0.0,
        block_tokens=int(_number(shuffle, "block_tokens") or 0),
    )


def _mapping(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = config.get(key)
    return value if isinstance(value, dict) else {}


def _number(config: Mapping[str, Any], key: str) -> float | None:
    value = config.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
