"""`interp models`."""

from typing import Any

import click

from interp.cli.evaluate import SEED
from interp.cli.output import json_option, print_facts
from interp.errors import NonFiniteError
from interp.models import Model, load_model

_EXAMPLES = """\b
Examples:
  interp models                                    the embedded model
  interp models ./pythia-70m --hooks               every hook name with its width
  interp models gpt2 --continue "Once upon a time" --json
"""


@click.command("models", epilog=_EXAMPLES)
@click.argument("model_name", metavar="[MODEL]", default="embedded")
@click.option("--hooks", "list_hooks", is_flag=True, help="List every hook name with its width.")
@click.option("--continue", "prompt", metavar="TEXT", help="Let the model go on with this text (temperature 1).")
@click.option("--seed", default=0, show_default=True, type=SEED, help="Seed of the continuation.")
@click.option("--max-tokens", default=80, show_default=True, type=click.IntRange(1), help="Length of the continuation.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda (cuda:1 for the second GPU).")
@json_option
def command(
    model_name: str, list_hooks: bool, prompt: str | None, seed: int, max_tokens: int, device: str, as_json: bool
) -> None:
    """Look at a model: its size, its hooks, what it writes.

    MODEL is "embedded", a Hugging Face folder or a hub name.
    """
    model = load_model(model_name, device=device)
    facts: dict[str, Any] = {
        **model.facts,
        "n_layers": model.n_layers,
        "d_model": model.d_model,
        "d_vocab": model.d_vocab,
        "context_size": model.context_size,
        "n_parameters": sum(p.numel() for p in model.hf.parameters()),
        "encoder": not model.causal,
        "folder": str(model.hf.name_or_path),
    }
    if list_hooks:
        facts["hooks"] = {name: point.width for name, point in model.hooks.items()}
    if prompt is not None:
        facts["continuation"] = continue_text(model, prompt, seed=seed, max_tokens=max_tokens)
    shown = {key: str(value) for key, value in facts.items() if key not in ("hooks", "continuation", "bos")}
    shown["bos"] = _begin(model)
    shown |= {name: str(width) for name, width in facts.get("hooks", {}).items()}
    print_facts(f"Model {model_name}", facts, as_json=as_json, shown=shown)
    if prompt is not None and not as_json:
        print(f"\n{facts['continuation']}")


def _begin(model: Model) -> str:
    """What rows begin with, and who else would write it."""
    frame = model.frame
    if frame.begin is None:
        return "none (the tokenizer has no such token)"
    end = "" if frame.end is None else f" … {model.tokenizer.convert_ids_to_tokens(frame.end)}"
    return f"{frame.begin_text}{end} ({'also' if frame.added else 'not'} added by the tokenizer itself)"


def continue_text(model: Model, prompt: str, *, seed: int, max_tokens: int) -> str:
    """Prompt and continuation, sampled at temperature 1."""
    import torch

    if not model.causal:
        raise click.UsageError(f"--continue: {model.name} is an encoder, which predicts no next token")
    ids = torch.tensor([model.tokenizer(prompt, add_special_tokens=False)["input_ids"]], dtype=torch.int64)
    if model.bos_token_id is not None:
        ids = torch.cat([torch.tensor([[model.bos_token_id]]), ids], dim=1)
    room = model.context_size - ids.shape[1]
    if ids.shape[1] == 0 or room < 1:
        raise click.UsageError(f"--continue: got {ids.shape[1]} tokens; expected 1 to {model.context_size - 1}")
    torch.manual_seed(seed)
    with torch.no_grad():
        if not bool(torch.isfinite(model.hf(ids.to(model.device)).logits).all()):
            raise NonFiniteError(
                f"{model.name}: its logits are NaN or infinite; check its weights or load it in float32"
            )
        out = model.hf.generate(  # type: ignore[operator]
            inputs=ids.to(model.device),
            attention_mask=torch.ones_like(ids).to(model.device),
            do_sample=True,
            top_k=0,
            max_new_tokens=min(max_tokens, room),
            pad_token_id=model.tokenizer.pad_token_id or 0,
        )
    return str(model.tokenizer.decode(out[0], skip_special_tokens=True))
