"""How a dictionary stands in a model: what it reads, what it writes, which columns belong to which hook.

Axes: b tokens, d width of all hooks side by side.
"""

from collections.abc import Mapping, Sequence

from jaxtyping import Float
from torch import Tensor

from interp.code import FeatureDictionary
from interp.errors import ArtifactError, ShapeError
from interp.models import Model
from saes.base import SAE


def hook_columns(model: Model, hooks: Sequence[str]) -> dict[str, slice]:
    """The columns of each hook where all of them stand side by side (`ActivationBatch.stacked`).

    Raises: UnknownHookError if the model lacks a hook.
    """
    columns, start = {}, 0
    for hook in hooks:
        width = model.hook(hook).width
        columns[hook] = slice(start, start + width)
        start += width
    return columns


def total_width(columns: Mapping[str, slice]) -> int:
    """Width of all hooks together."""
    return max((part.stop for part in columns.values()), default=0)


def check_width(model: Model, hooks: Sequence[str], width: int) -> None:
    """Raises: UnknownHookError if the model lacks a hook; ArtifactError if together they are not `width` wide."""
    found = total_width(hook_columns(model, hooks))
    if found != width:
        have = "has" if len(hooks) == 1 else "have together"
        raise ArtifactError(
            f"got an SAE of width {width} for {', '.join(hooks)}, which {have} width {found} in {model.name}; "
            "give the model that the SAE was trained on"
        )


def check_output(output: Float[Tensor, "b d"], target: Tensor, hooks: Sequence[str]) -> None:
    """Raises: ShapeError if a dictionary's output is not as wide as what stands at its hooks."""
    if output.shape != target.shape:
        raise ShapeError(
            f"got an output of shape {tuple(output.shape)} for {', '.join(hooks)}, where activations are "
            f"{tuple(target.shape)}; check the hook"
        )


def inner_prefixes(dictionary: FeatureDictionary) -> tuple[int, ...]:
    """Widths of the nested prefixes below the whole dictionary; none of one that is not nested."""
    if not isinstance(dictionary, SAE):
        return ()
    return tuple(width for width in dictionary.config.prefix_widths() if width < dictionary.d_sae)
