"""The logit lens: a layer's residual stream read as if it were the last one; and which places a lens can read.

Axes: b tokens, l layers (hooks), d d_model, v vocabulary.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from interp.code import FeatureDictionary
from interp.errors import ConfigError, ModelError
from interp.models import Model

FIRST = "blocks.0.hook_resid_pre"

Reconstruct = Callable[[Float[Tensor, "b d"]], Float[Tensor, "b d"]]
"""What stands for the activations at a hook while a lens reads it, such as an SAE's reconstruction of them."""


def check_readable(model: Model) -> None:
    """Raises: ModelError for an encoder, which predicts no next token that a lens could be read against."""
    if model.unembedding is None or model.final_norm is None:
        raise ModelError(
            f"{model.name}: got an encoder; a lens needs the unembedding and the next token of a causal language "
            "model; give one with --model, or ask this one's layers with `interp probe`"
        )


def last_hook(model: Model) -> str:
    """The residual stream that the final norm reads: the lens there is the model itself."""
    return f"blocks.{model.n_layers - 1}.hook_resid_post"


def layer_name(hook: str) -> str:
    """A short name of a place in the residual stream: embedding, block 2."""
    return "embedding" if hook.endswith("resid_pre") else f"block {hook.split('.')[1]}"


def lens_hooks(model: Model, chosen: Sequence[str] = ()) -> tuple[str, ...]:
    """Where a lens reads: the embedding and the residual stream after each block, or the chosen ones of these.

    Raises: ModelError for an encoder; UnknownHookError; ConfigError for a hook outside the residual stream.
    """
    check_readable(model)
    known = (FIRST, *(f"blocks.{layer}.hook_resid_post" for layer in range(model.n_layers)))
    for name in chosen:
        model.hook(name)
        if name not in known:
            raise ConfigError(
                f"hooks: got {name}; a lens reads the residual stream between blocks; choose among {', '.join(known)}"
            )
    return tuple(name for name in known if not chosen or name in chosen)


def unembed(model: Model, normed: Float[Tensor, "*b d"]) -> Float[Tensor, "*b v"]:
    """Logits of what left the final norm, soft-capped where the model does so."""
    check_readable(model)
    head = model.unembedding
    assert head is not None
    logits: Tensor = head(normed).float()
    cap = getattr(model.hf.config.get_text_config(), "final_logit_softcapping", None)
    return logits if cap is None else torch.tanh(logits / cap) * cap


def normed(model: Model, hidden: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
    """The final norm of any layer's residual stream, its statistics taken from that stream itself."""
    check_readable(model)
    norm = model.final_norm
    assert norm is not None
    out: Tensor = norm(hidden.to(model.dtype))
    return out


def logit_lens(model: Model, hidden: Float[Tensor, "*b d"]) -> Float[Tensor, "*b v"]:
    """Next-token logits of a residual stream: final norm, then unembedding. At the last layer, the model's own.

    Source: nostalgebraist 2020, "interpreting GPT: the logit lens".
    """
    return unembed(model, normed(model, hidden))


def reconstruction_of(dictionary: FeatureDictionary) -> Mapping[str, Reconstruct]:
    """What an SAE, codebook or other dictionary makes of the activations at its hook, for lenses to read instead.

    Raises: ConfigError if it does not reconstruct the one hook that it reads.
    """
    if len(dictionary.hooks_in) != 1 or dictionary.hooks_in != dictionary.hooks_out:
        reads, writes = ", ".join(dictionary.hooks_in), ", ".join(dictionary.hooks_out)
        raise ConfigError(
            f"got a dictionary that reads {reads} and writes {writes}; expected one that reconstructs the hook it "
            "reads; give an SAE of one hook"
        )

    def reconstruct(x: Tensor) -> Tensor:
        return dictionary.decode(dictionary.encode(x)).to(x.dtype)

    return {dictionary.hooks_in[0]: reconstruct}


def divergence(teacher: Float[Tensor, "*b v"], lens: Float[Tensor, "*b v"]) -> Float[Tensor, "*b"]:
    """KL(teacher‖lens) of two sets of logits.

    Units: nats.
    """
    log_p, log_q = teacher.log_softmax(-1), lens.log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)
