"""How a model goes on with a prompt, steered and not."""

from collections.abc import Sequence
from typing import Any

import torch

from interp.directions import Direction
from interp.errors import ConfigError
from interp.models import Model
from interp.prompts import encode_prompts
from interp.steering import steer
from interp.steering_results import SteeredText


def steered_texts(
    model: Model,
    direction: Direction,
    prompts: Sequence[str],
    *,
    strengths: Sequence[float],
    new_tokens: int = 24,
    temperature: float = 0.0,
    seed: int = 0,
) -> tuple[SteeredText, ...]:
    """Every prompt gone on with at every strength; 0 is the model as it is. Greedy, or drawn at a temperature.

    Draws of one prompt share their seed, so that strengths differ by the steering alone.

    Raises: ConfigError for an encoder, which writes no text; what `steer` raises.
    """
    if not model.causal:
        raise ConfigError(f"{model.name} is an encoder and writes no text; give a causal language model")
    return tuple(
        SteeredText(
            float(strength), prompt, _continued(model, direction, prompt, strength, new_tokens, temperature, seed)
        )
        for prompt in prompts
        for strength in strengths
    )


def _continued(
    model: Model, direction: Direction, prompt: str, strength: float, new_tokens: int, temperature: float, seed: int
) -> str:
    token_ids = encode_prompts(model, [prompt]).token_ids.to(model.device)
    room = max(1, min(new_tokens, model.context_size - token_ids.shape[1]))
    drawn = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature > 0 else {"do_sample": False}
    pad = model.tokenizer.pad_token_id
    with torch.random.fork_rng(), torch.no_grad(), steer(model, direction, strength):
        torch.manual_seed(seed)
        generate: Any = model.hf.generate
        out = generate(
            token_ids,
            attention_mask=torch.ones_like(token_ids),
            max_new_tokens=room,
            pad_token_id=0 if pad is None else pad,
            **drawn,
        )
    return str(model.tokenizer.decode(out[0, token_ids.shape[1] :], skip_special_tokens=True))
