"""What a sweep is told: one base and the settings that its members differ in."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from interp.config import Config, Seed, closest
from interp.errors import ConfigError
from saes.member_names import member_names
from saes.train_config import TrainConfig

_STREAM = "it changes the stream of activations, which all members share; run a sweep for each"
_STEPS = "all members take the same steps, and log and save at the same ones"
SHARED = {
    **dict.fromkeys(("model", "dataset", "data", "batch_size", "shuffle", "device", "model_device"), _STREAM),
    **dict.fromkeys(("activations", "randomise_model", "other_model", "dtype", "harvest"), _STREAM),
    **dict.fromkeys(("tokens", "recording"), _STEPS),
    "out": "members stand in runs/ of the sweep's own folder",
}
"""Settings, or groups of them, in which members cannot differ, and why."""


@dataclass(frozen=True, slots=True)
class Member:
    """One SAE of a sweep: its config, as `interp train` takes it, and what sets it apart from the others."""

    name: str
    config: TrainConfig
    settings: Mapping[str, Any]


class SweepConfig(Config):
    """Many SAEs from one stream of activations."""

    base: TrainConfig
    """What all members have in common, as for `interp train`; its `seed` is that of shuffling unless shuffle.seed is
    given, and members' seeds change their initial weights alone."""
    grid: dict[str, list[Any]] = Field(default_factory=dict)
    """Dotted setting -> values; every combination of them is a member."""
    also: list[dict[str, Any]] = Field(default_factory=list)
    """Further members, each as dotted settings on top of the base with the first value of each list."""
    seeds: list[Seed] = Field(default_factory=list)
    """Every member of grid and also, once with each of these seeds; unset: with the seed that it has."""
    out: Path = Path("runs/sweep")
    """Folder of the sweep."""

    @model_validator(mode="before")
    @classmethod
    def _base_of_all(cls, values: Any) -> Any:
        """The base with what it leaves open: first values of the lists, a seed of shuffling, the sweep's folder."""
        if not isinstance(values, dict) or not isinstance(values.get("base", {}), dict):
            return values
        out = str(values.get("out", cls.model_fields["out"].default))
        base = _copied(values.get("base", {}))
        if str(base.get("out", out)) != out:
            raise ValueError(f"base.out: got {base['out']}; a sweep's folder is its own `out`, beside `base`")
        shuffle = base.setdefault("shuffle", {})
        if isinstance(shuffle, dict) and shuffle.get("seed") is None:
            shuffle["seed"] = base.get("seed", 0)
        for key, choices in _checked_grid(values.get("grid") or {}):
            _put(base, key, choices[0])
        return {**values, "base": {**base, "out": out}}

    @model_validator(mode="after")
    def _members_are_possible(self) -> "SweepConfig":
        for extra in self.also:
            for key in extra:
                _check_key(key, where="also")
        if self.seeds and "seed" in (*self.grid, *(key for extra in self.also for key in extra)):
            raise ValueError("seeds: got seeds of members in grid or also as well; give them in one place")
        self.members()
        return self

    def members(self) -> tuple[Member, ...]:
        """All members, the grid's first, its last key varying fastest.

        Raises: ConfigError for a combination that is no training config, or for two members that are the same.
        """
        keys = [*self.grid, *(key for extra in self.also for key in extra if key not in self.grid)]
        keys += ["seed"] if self.seeds else []
        configs = [self._member(settings) for settings in self._choices()]
        if not configs:
            raise ConfigError("grid: got no member; give a list of values for at least one setting, or `also`")
        told = [{key: _at(config, key) for key in dict.fromkeys(keys)} for config in configs]
        for index, settings in enumerate(told):
            if settings in told[:index]:
                raise ConfigError(f"got two members with {_written(settings)}; name each once in grid and also")
        names = member_names(told)
        return tuple(
            Member(name, config.model_copy(update={"out": self.out / "runs" / name}), settings)
            for name, config, settings in zip(names, configs, told, strict=True)
        )

    def _choices(self) -> list[Mapping[str, Any]]:
        """What sets each member apart."""
        choices = [dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())]
        every: list[Mapping[str, Any]] = [*(choices if self.grid else []), *self.also]
        return [{**one, "seed": seed} for one in every for seed in self.seeds] if self.seeds else every

    def _member(self, settings: Mapping[str, Any]) -> TrainConfig:
        values = self.base.model_dump(mode="json")
        for key, value in settings.items():
            _put(values, key, value)
        return TrainConfig.parse(values, source=f"member with {_written(settings)}")

    @property
    def hooks(self) -> tuple[str, ...]:
        """What is harvested: every hook of every member, each once."""
        return tuple(dict.fromkeys(hook for member in self.members() for hook in member.config.all_hooks))


def _checked_grid(grid: Any) -> Iterator[tuple[str, Sequence[Any]]]:
    if not isinstance(grid, dict):
        raise ValueError(f"grid: got {grid!r}; expected `setting: [value, value]` lines")
    for key, choices in grid.items():
        _check_key(str(key), where="grid")
        if not isinstance(choices, list) or not choices:
            raise ValueError(f"grid.{key}: got {choices!r}; expected a list of values")
        yield str(key), choices


def _check_key(key: str, *, where: str) -> None:
    """Raises: ValueError if it is no setting of `interp train`, or one in which members cannot differ."""
    known = [name for name, _ in TrainConfig.leaves()]
    reason = SHARED.get(key.split(".")[0])
    if reason is not None:
        raise ValueError(f"{where}: members cannot differ in {key}: {reason}")
    if key not in known:
        allowed = [name for name in known if name.split(".")[0] not in SHARED]
        raise ValueError(f"{where}: unknown setting {key!r}; {closest(key, allowed)}")


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *groups, last = key.split(".")
    for group in groups:
        inner = values.setdefault(group, {})
        if not isinstance(inner, dict):
            raise ValueError(f"base.{group}: got {inner!r}; expected a group of settings")
        values = inner
    values[last] = value


def _copied(values: dict[str, Any]) -> dict[str, Any]:
    return {key: _copied(value) if isinstance(value, dict) else value for key, value in values.items()}


def _at(config: TrainConfig, key: str) -> Any:
    value: Any = config.model_dump(mode="json")
    for part in key.split("."):
        value = value[part]
    return value


def _written(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in settings.items()) or "no setting of its own"
