"""Edits of codes: features taken out, held at a value, or moved; for `splice` and `feature_edit`.

Axes: n entries of a code, m held features, b tokens.
"""

import math
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from interp.code import Code, offsets_of
from interp.errors import ConfigError


def ablate_features(*features: int) -> Callable[[Code], Code]:
    """An edit under which these features never fire.

    Raises: ConfigError for an id that is no integer or, once it is applied, one that the dictionary does not have.
    """
    _check_whole(features)

    def change(code: Code) -> Code:
        return _without(code, check_features(features, code.d_sae).to(code.features.device))

    return change


def pin_features(values: Mapping[int, float]) -> Callable[[Code], Code]:
    """An edit under which each of these features fires with its value on every token; 0 is an ablation.

    Raises: ConfigError for a negative value, one that is not finite, an id that is no integer or, once it is applied, a
    feature that the dictionary does not have.
    """
    _check_held(values)
    negative = [value for value in values.values() if not value >= 0]
    if negative:
        raise ConfigError(f"got activation {negative[0]}; expected at least 0: features do not fire negatively")

    def change(code: Code) -> Code:
        held = check_features(tuple(values), code.d_sae).to(code.features.device)
        every = code.values.new_tensor(list(values.values())).repeat(code.n_rows)
        return _with(_without(code, held), held, every)

    return change


def check_features(features: tuple[int, ...], d_sae: int) -> Tensor:
    """The feature ids as a tensor.

    Raises: ConfigError naming the first that is no integer, or not in a dictionary of `d_sae` features.
    """
    _check_whole(features)
    outside = [feature for feature in features if not 0 <= feature < d_sae]
    if outside:
        raise ConfigError(f"got feature {outside[0]}; the SAE has {d_sae:,} features, numbered from 0 to {d_sae - 1}")
    return torch.tensor(features, dtype=torch.int64)


def _check_whole(features: Iterable[int]) -> None:
    for feature in features:
        try:
            operator.index(feature)
        except TypeError:
            raise ConfigError(f"got feature {feature!r}; expected an integer, the feature's number") from None
        # Of a mask True and False would be features 1 and 0.
        if str(getattr(feature, "dtype", type(feature).__name__)) in ("bool", "torch.bool"):
            raise ConfigError(f"got feature {feature!r}; expected an integer; of a mask give its places")


def _check_held(values: Mapping[int, float]) -> None:
    _check_whole(values)
    if wrong := [(feature, value) for feature, value in values.items() if not math.isfinite(value)]:
        raise ConfigError(f"got activation {wrong[0][1]} for feature {wrong[0][0]}; expected a finite number")


def _without(code: Code, features: Tensor) -> Code:
    return code.keep(~torch.isin(code.features, features))


def _with(code: Code, features: Tensor, values: Tensor) -> Code:
    """The same with each of `features` added to each token; values token by token."""
    every = torch.arange(code.n_rows, device=code.features.device)
    rows = torch.cat([code.rows(), every.repeat_interleave(features.shape[0])])
    ids = torch.cat([code.features, features.to(code.features).repeat(code.n_rows)])
    acts = torch.cat([code.values, values])
    order = (rows * code.d_sae + ids).argsort()
    offsets = offsets_of(code.row_offsets.diff() + features.shape[0])
    return replace(code, values=acts[order], features=ids[order], row_offsets=offsets)


def shift_features(values: Mapping[int, float]) -> Callable[[Code], Code]:
    """An edit that adds to each of these features' activations on every token, where they fire and where they do not.

    What would fall below zero is zero, as no encoder gives less.

    Raises: ConfigError for a value that is not finite, an id that is no integer or, once it is applied, a feature that
    the dictionary does not have.
    """
    _check_held(values)

    def change(code: Code) -> Code:
        held = check_features(tuple(values), code.d_sae).to(code.features.device)
        own = torch.isin(code.features, held)
        now = code.values.new_zeros(code.n_rows, held.shape[0])
        place = torch.zeros(code.d_sae, dtype=torch.int64, device=held.device)
        place[held] = torch.arange(held.shape[0], device=held.device)
        now[code.rows()[own], place[code.features[own].long()]] = code.values[own]
        moved = (now + code.values.new_tensor(list(values.values()))).clamp_min(0)
        return _with(_without(code, held), held, moved.flatten())

    return change
