"""Directions to steer along: a feature's, a mean difference, a probe's; and random ones to hold them against.

Axes: n tokens, m directions, d width of the hook.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.code import FeatureDictionary
from interp.datasets import MaskPolicy, masked_ids
from interp.errors import ArtifactError, ConfigError, DataError, ShapeError
from interp.hooks import capture
from interp.models import Model
from interp.prompts import Prompts
from interp.storage import read_json, write_json

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Direction:
    """What strength 1 adds to the activations at a hook.

    Shapes: vector (d,). source says where it comes from: "feature", "mean difference", "probe" or the like.
    """

    hook: str
    vector: Float[Tensor, " d"]
    name: str = "direction"
    source: str = "given"

    def __post_init__(self) -> None:
        if not isinstance(self.vector, Tensor) or not self.vector.is_floating_point():
            got = self.vector.dtype if isinstance(self.vector, Tensor) else type(self.vector).__name__
            raise ConfigError(
                f"{self.name}: got a vector of {got}; expected a tensor of floating-point numbers: "
                "torch.as_tensor(vector, dtype=torch.float32)"
            )
        if self.vector.ndim != 1 or not bool(self.vector.isfinite().all()) or not bool(self.vector.any()):
            raise ConfigError(
                f"{self.name}: got a vector of shape {tuple(self.vector.shape)} and norm {self.vector.norm():g}; "
                "expected one row of finite numbers that are not all zero"
            )

    @property
    def norm(self) -> float:
        return float(self.vector.norm())

    def with_norm(self, norm: float) -> "Direction":
        """The same direction, another length."""
        return replace(self, vector=self.vector * (norm / self.norm))

    def check_fits(self, model: Model) -> None:
        """Raises: UnknownHookError if the model lacks the hook; ShapeError if it is of another width."""
        width = model.hook(self.hook).width
        if width != self.vector.shape[0]:
            raise ShapeError(
                f"{self.name}: got {self.vector.shape[0]} numbers; {self.hook} of {model.name} is {width} wide"
            )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        head = {"schema_version": SCHEMA_VERSION, "kind": "direction", "hook": self.hook}
        return head | {"name": self.name, "source": self.source, "vector": self.vector.tolist()}

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all.

        Raises: StorageError.
        """
        write_json(path, self.to_json())

    @staticmethod
    def load(path: Path) -> "Direction":
        """Read what `save` wrote, or JSON of {"hook": …, "vector": […]} by hand.

        Raises: ArtifactError if the file is missing, damaged or of another kind.
        """
        held = read_json(path)
        try:
            vector = torch.tensor(held["vector"], dtype=torch.float32)
            name, source = str(held.get("name", path.stem)), str(held.get("source", "given"))
            return Direction(str(held["hook"]), vector, name, source)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ArtifactError(
                f'{path}: holds no direction; expected JSON with "hook" (a name) and "vector" (numbers)'
            ) from None


def feature_direction(dictionary: FeatureDictionary, feature: int, *, label: str = "feature") -> Direction:
    """What a unit of a feature's (or code's) activation writes.

    Raises: ConfigError for a feature that the dictionary lacks, or one that writes at several hooks.
    """
    if len(dictionary.hooks_out) != 1:
        raise ConfigError(
            f"got a dictionary that writes at {', '.join(dictionary.hooks_out)}; expected one hook to steer at"
        )
    if not 0 <= feature < dictionary.d_sae:
        raise ConfigError(f"got feature {feature}; expected 0 to {dictionary.d_sae - 1}")
    vector = dictionary.directions(torch.tensor([feature]))[0].detach()
    return Direction(dictionary.hooks_out[0], vector, f"{label} {feature}", label)


def mean_difference(
    model: Model, hook: str, toward: Prompts, away: Prompts, *, position: int | str | None = "last", bos: bool = False
) -> Direction:
    """Mean activation of one set of prompts minus that of another, at one place of each (None: all spoken tokens).

    None leaves BOS and special tokens out, as steering does, unless `bos` asks for them: their activations are far off,
    and prompts of different lengths would differ by how much of the mean they are.

    Raises: UnknownHookError; DataError if the two sets do not differ there, or one has no token.
    """
    means = [activations_at(model, hook, prompts, position, bos=bos).mean(0) for prompts in (toward, away)]
    if means[0].equal(means[1]):
        raise DataError(f"got two sets of prompts with the same mean at {hook}; give prompts that differ")
    return Direction(hook, means[0] - means[1], "mean difference", "mean difference")


def activations_at(
    model: Model, hook: str, prompts: Prompts, position: int | str | None, *, bos: bool = False
) -> Float[Tensor, "n d"]:
    """Activations at one place of each prompt, or (None) at all its tokens but BOS, special ones and padding.

    `bos` counts BOS and special tokens too; a place that is named or numbered is read whatever stands there.

    Raises: UnknownHookError; DataError where no token is left.
    """
    acts = capture(model, prompts.token_ids, [hook], None if model.causal else prompts.real)[hook]
    positions = prompts.positions(position)
    if positions is None:
        keep = prompts.real if bos else steerable(model, prompts)
        if not bool(keep.any()):
            raise DataError("got prompts of nothing but BOS and special tokens; expected text, or give a position")
        return acts[keep.to(acts.device)]
    return acts[torch.arange(len(prompts)), positions.to(acts.device)]


def steerable(model: Model, prompts: Prompts) -> Bool[Tensor, "b t"]:
    """All tokens but padding, BOS and special ones: those that are steered, and that directions are made of."""
    masked = torch.tensor(sorted(masked_ids(model, MaskPolicy())), dtype=torch.int64)
    return prompts.real & ~torch.isin(prompts.token_ids, masked)


def covariance_matched(acts: Float[Tensor, "n d"], m: int, *, seed: int = 0) -> Float[Tensor, "m d"]:
    """Random directions with mean zero and the activations' own covariance.

    A Gaussian combination of centred rows has exactly the sample covariance: no matrix is decomposed, and directions in
    which the activations do not vary stay empty.
    """
    if acts.shape[0] < 2:
        raise DataError(f"got {acts.shape[0]} activations; covariance needs at least two, and better more than d")
    centred = (acts - acts.mean(0)).double()
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(m, acts.shape[0], generator=generator, dtype=torch.float64).to(acts.device)
    drawn: Tensor = mix @ centred / (acts.shape[0] - 1) ** 0.5
    return drawn.to(acts.dtype)


def random_decoder_rows(
    dictionary: FeatureDictionary, m: int, *, exclude: tuple[int, ...] = (), seed: int = 0
) -> Float[Tensor, "m d"]:
    """Directions of features drawn at random without `exclude`, with either sign equally likely.

    Raises: ConfigError if the dictionary has too few.
    """
    others = torch.tensor([f for f in range(dictionary.d_sae) if f not in set(exclude)])
    if others.shape[0] < m:
        raise ConfigError(f"got a dictionary of {dictionary.d_sae} features; it has no {m} to draw; ask for fewer")
    generator = torch.Generator().manual_seed(seed)
    drawn = others[torch.randperm(others.shape[0], generator=generator)[:m]]
    rows: Tensor = dictionary.directions(drawn).detach()
    signs = torch.randint(0, 2, (m, 1), generator=generator).to(rows) * 2 - 1
    signed: Tensor = rows * signs
    return signed


def with_norms(vectors: Float[Tensor, "m d"], norm: float) -> Float[Tensor, "m d"]:
    """The same directions, all of one length."""
    lengths: Tensor = vectors.norm(dim=1, keepdim=True).clamp_min(torch.finfo(vectors.dtype).tiny)
    return vectors * (norm / lengths)
