"""SAEDashboard's side of benchmarks/features.py; runs in its own environment."""

import json
import sys
import time
from pathlib import Path

import torch
from sae_dashboard.sae_vis_data import SaeVisConfig
from sae_dashboard.sae_vis_runner import SaeVisRunner
from sae_lens import SAE, HookedSAETransformer
from safetensors.torch import load_file
from transformer_lens import HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions import convert_llama_weights
from transformers import LlamaForCausalLM

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def hooked_model(folder: Path) -> HookedSAETransformer:
    """The folder's Llama model with its weights as they are."""
    hf = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    c = hf.config
    rope = getattr(c, "rope_parameters", None) or {}
    config = HookedTransformerConfig(
        n_layers=c.num_hidden_layers, d_model=c.hidden_size, n_heads=c.num_attention_heads, d_head=c.head_dim,
        n_key_value_heads=c.num_key_value_heads, d_mlp=c.intermediate_size, d_vocab=c.vocab_size,
        n_ctx=c.max_position_embeddings, eps=c.rms_norm_eps, act_fn=c.hidden_act, normalization_type="RMS",
        positional_embedding_type="rotary", rotary_dim=c.head_dim, rotary_adjacent_pairs=False, gated_mlp=True,
        rotary_base=int(rope.get("rope_theta", c.rope_theta)), final_rms=True, original_architecture="LlamaForCausalLM",
        device="cpu",
    )  # fmt: skip
    model = HookedSAETransformer(config)
    weights = convert_llama_weights(hf, config)
    model.load_state_dict(model.fill_missing_keys(weights))
    return model.eval()


def check_codes(sae: SAE, acts: torch.Tensor, ours: dict[str, torch.Tensor]) -> None:
    """Stop unless the peer's SAE fires where ours does, as strongly.

    A firing may stand on either side of the threshold by rounding: one in a thousand may differ.
    """
    with torch.no_grad():
        theirs = sae.encode(acts)
    mine = torch.zeros_like(theirs).index_put((ours["rows"], ours["features"]), ours["values"])
    both = (theirs > 0) & (mine > 0)
    n_apart = int(((theirs > 0) != (mine > 0)).sum())
    error = float((theirs - mine).abs()[both].max() / mine.max())
    if n_apart > 1e-3 * int((mine > 0).sum()) or error > 1e-4:
        raise SystemExit(f"the peer's codes differ from ours: {n_apart} firings, values by {error:.2g}")


def main(folder: Path, d_sae: str, clock: str, n_batches: int, arm: str) -> None:
    """Print seconds of the first feature batch and of all."""
    task, tensors = json.loads((folder / "task.json").read_text()), load_file(folder / "rows.safetensors")
    rows, model = tensors["token_ids"], hooked_model(folder / "model")
    sae = SAE.load_from_disk(folder / f"sae_{d_sae}", device="cpu")
    with torch.no_grad():
        _, cache = model.run_with_cache(rows[:8], names_filter=task["hook"])
    acts = cache[task["hook"]].flatten(0, 1)
    error = float((acts - tensors["acts"]).abs().max() / tensors["acts"].abs().max())
    if error > 1e-4:
        raise SystemExit(f"the peer's model differs from ours by {error:.2g}")
    check_codes(sae, acts, load_file(folder / f"codes_{d_sae}.safetensors"))
    size = task["features_at_a_time"]
    caching = {"cache_dir": folder / f"cache_{d_sae}"} if arm == "saedashboard_cached" else {}

    def run(first: int, last: int) -> float:
        config = SaeVisConfig(
            hook_point=task["hook"], features=list(range(first, last)), minibatch_size_features=size,
            minibatch_size_tokens=64, device="cpu", **caching,
        )  # fmt: skip
        started = CLOCKS[clock]()
        SaeVisRunner(config).run(encoder=sae, model=model, tokens=rows)
        return CLOCKS[clock]() - started

    width = min(n_batches * size, int(d_sae))
    first_seconds = run(0, size)
    seconds = first_seconds + (run(size, width) if width > size else 0.0)
    print(json.dumps({"seconds": round(seconds, 2), "first_seconds": round(first_seconds, 2), "batches": n_batches}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5])
