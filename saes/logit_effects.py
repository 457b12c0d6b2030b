"""Which next tokens a direction makes more and less likely, by the direct path to the logits.

Axes: m directions, d width of the hook, r d_model, v vocabulary, k tokens shown.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.errors import ModelError
from interp.models import Model
from interp.weights import linear_matrix

ON_STREAM = ("hook_embed", "hook_pos_embed", "hook_resid_pre", "hook_resid_mid", "hook_resid_post")
WRITERS = ("hook_attn_out", "hook_mlp_out")
EFFECT_ENTRIES = 1 << 25


@dataclass(frozen=True, slots=True)
class LogitEffects:
    """The k most raised and most lowered tokens of each direction; token -1 and logit 0 where there is no such path.

    Units: logits per unit of the direction divided by the final norm's scale, mean over the vocabulary removed.
    """

    raised_tokens: Int[Tensor, "m k"]
    raised_logits: Float[Tensor, "m k"]
    lowered_tokens: Int[Tensor, "m k"]
    lowered_logits: Float[Tensor, "m k"]


@torch.no_grad()
def logit_effects(model: Model, hook: str, directions: Float[Tensor, "m d"], *, k: int = 10) -> LogitEffects:
    """Effect of each direction at `hook` on the logits if nothing in between reacted.

    The direction (written to the stream by its own block's output matrix where `hook` is attn.hook_z or mlp.hook_post)
    times the final norm's weight times the unembedding. A LayerNorm's centring is kept; the norm's scale, one positive
    number per token, is left out.
    """
    model, hook = model.owner(hook)
    k = min(k, model.d_vocab)
    written = write_to_stream(model, hook, directions.to(model.device, torch.float32))
    if written is None:
        nothing = torch.full((directions.shape[0], k), -1)
        zeros = torch.zeros(directions.shape[0], k)
        return LogitEffects(nothing, zeros, nothing.clone(), zeros.clone())
    unembedding = centred_unembedding(model)
    found: list[tuple[Tensor, ...]] = []
    for rows in written.split(max(1, EFFECT_ENTRIES // unembedding.shape[0])):
        effect = rows @ unembedding.T
        high, low = effect.topk(k), effect.topk(k, largest=False)
        found.append((high.indices, high.values, low.indices, low.values))
    return LogitEffects(*(torch.cat(parts).cpu() for parts in zip(*found, strict=True)))


def centred_unembedding(model: Model) -> Float[Tensor, "v r"]:
    """Unembedding times the final norm's weight; each column's mean over the vocabulary is zero."""
    if model.paths.ln_final is None:
        raise ModelError(f"{model.name}: has no final norm before its logits; logit effects are not defined for it")
    norm = model.hf.get_submodule(model.paths.ln_final)
    embeddings: nn.Module = model.hf.get_output_embeddings()
    matrix = linear_matrix(embeddings, model.d_model, model.dtype)
    matrix = (matrix - matrix.mean(0)) * norm_weight(norm, model.d_model)
    # x - mean(x) before the weight is the same as removing each row's mean after it.
    return matrix - matrix.mean(1, keepdim=True) if isinstance(norm, nn.LayerNorm) else matrix


def norm_weight(norm: nn.Module, d_model: int) -> Float[Tensor, " r"]:
    """What a norm multiplies each dimension by: measured, since some families store it as what is added to one."""
    parameter = norm.get_parameter("weight")
    signs = torch.ones(d_model, device=parameter.device)
    signs[1::2] = -1
    # Large, so that the norm's epsilon does not count.
    probe = (1e3 * signs).to(parameter.dtype)
    expected = signs - signs.mean() if isinstance(norm, nn.LayerNorm) else signs
    expected = expected / expected.square().mean().sqrt()
    weight: Tensor = (norm(probe[None, None]) - norm(-probe[None, None]))[0, 0].float() / (2 * expected)
    return weight


def write_to_stream(model: Model, hook: str, directions: Float[Tensor, "m d"]) -> Float[Tensor, "m r"] | None:
    """What the directions become in the residual stream; None where no straight path leads from there to the logits."""
    # An encoder has no unembedding.
    if model.unembedding is None:
        return None
    name = hook.split(".", 2)[-1] if hook.startswith("blocks.") else hook
    if name in ON_STREAM or name in WRITERS:
        return directions
    family = model.paths
    path, out = {"attn.hook_z": (family.z, family.attn_out), "mlp.hook_post": (family.mlp_post, family.mlp_out)}.get(
        name, ("", "")
    )
    # A norm after the output matrix (Gemma 2) makes the path nonlinear.
    if not path or not path.startswith(f"{out}."):
        return None
    module = model.hf.get_submodule(model.hook(hook).module_path)
    return directions @ linear_matrix(module, directions.shape[1], model.dtype).T
