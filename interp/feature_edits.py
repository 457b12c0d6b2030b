"""Features taken out, held or moved where they stand in a model, with the dictionary's error kept.

Axes: b rows, t position, d width of the hook, n edited tokens.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.code import Code, FeatureDictionary
from interp.errors import ConfigError, ShapeError
from interp.hooks import Edit

EditCode = Callable[[Code], Code]
"""Takes the code of the edited tokens, row after row, and returns what shall be decoded instead."""


def feature_edit(dictionary: FeatureDictionary, change: EditCode, keep: Bool[Tensor, "b t"]) -> Edit:
    """An edit of the dictionary's hook: what `change` does to the code is decoded and added to what stood there.

    What the dictionary does not reconstruct stays, so that a change of nothing changes nothing. keep: tokens that are
    edited; a batch of several copies of these rows is edited in each.

    Raises: ConfigError for a dictionary that reads or writes several hooks or not the one it reads.
    """
    single_hook(dictionary)

    def edited(x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        chosen = _of_copies(keep, x)
        if bool(chosen.any()):
            code = dictionary.encode(x[chosen])
            new = change(code)
            x[chosen] += (dictionary.decode(new) - dictionary.decode(code)).to(x)
        return x

    return edited


def code_edit(
    dictionary: FeatureDictionary, codes: Float[Tensor, "b f"], keep: Bool[Tensor, "b t"], own: Float[Tensor, "b f"]
) -> Edit:
    """An edit that moves each row's kept tokens by what decoding `codes` instead of `own` changes.

    Values may be negative or larger than any that an encoder gives.

    Raises: ConfigError as `feature_edit` does.
    """
    single_hook(dictionary)
    moved = dictionary.decode(any_code(codes)) - dictionary.decode(any_code(own))

    def edited(x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        chosen = _of_copies(keep, x)
        return torch.where(chosen[:, :, None], x + moved.to(x)[:, None, :], x)

    return edited


def any_code(values: Float[Tensor, "b f"]) -> Code:
    """A matrix as a code, its negative entries included."""
    rows, features = values.nonzero(as_tuple=True)
    counts = torch.bincount(rows, minlength=values.shape[0])
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return Code(values[rows, features], features, offsets, values.shape[1])


def single_hook(dictionary: FeatureDictionary) -> str:
    """The one hook that the dictionary reads and writes.

    Raises: ConfigError if it has several, or writes another than it reads.
    """
    if len(dictionary.hooks_in) != 1 or dictionary.hooks_in != dictionary.hooks_out:
        raise ConfigError(
            f"got a dictionary from {', '.join(dictionary.hooks_in)} to {', '.join(dictionary.hooks_out)}; "
            "expected one that reads and writes the same hook; steer along its direction instead"
        )
    return dictionary.hooks_in[0]


def _of_copies(keep: Tensor, x: Tensor) -> Tensor:
    if x.shape[0] % keep.shape[0] or x.shape[1] != keep.shape[1]:
        raise ShapeError(f"got activations {tuple(x.shape)}; expected copies of {tuple(keep.shape)} rows and tokens")
    return keep.to(x.device).repeat(x.shape[0] // keep.shape[0], 1)
