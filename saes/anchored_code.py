"""A code that remembers of each token what its features do not say.

Axes: b tokens, d width of the output.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from interp.code import Code
from interp.errors import ConfigError


@dataclass(frozen=True, slots=True)
class AnchoredCode(Code):
    """A code that decodes to scale · (what the features say) + offset, token by token.

    So normalisation at run time is undone, and so a transcoder's skip connection reaches its output. An edit keeps both
    if it makes the new code with `dataclasses.replace`.

    Shapes: scale (b, 1); offset (b, 1) or (b, d).
    """

    scale: Float[Tensor, "b 1"]
    offset: Float[Tensor, "b _"]


def anchored(decoded: Float[Tensor, "b d"], code: Code) -> Float[Tensor, "b d"]:
    """What the features say, put in the place of each token.

    Raises: ConfigError if the code was made anew and has lost its tokens.
    """
    if not isinstance(code, AnchoredCode):
        raise ConfigError(
            "got a plain code; expected the one that `encode` gave, which holds each token's scale and offset; "
            "edit it with dataclasses.replace"
        )
    return decoded * code.scale + code.offset
