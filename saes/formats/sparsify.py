"""sparsify (formerly sae): cfg.json and sae.safetensors, one folder per module of the model, named after it.

Format: SparseCoder.load_from_disk of sparsify 1.3. Encoder and decoder are [f, d].
"""

import re
from typing import Any

from interp.errors import ArtifactError
from interp.storage import read_json, read_tensors
from saes.facts import SAEFacts
from saes.formats.source import Source
from saes.formats.stored import StoredSAE
from saes.formats.tensors import checked, positive

CONFIG, WEIGHTS = "cfg.json", "sae.safetensors"
RUN_CONFIG = "config.json"
"""One level up: the settings of the training run, with model, data set and context size."""
MODULES = {"": "hook_resid_post", "attn": "hook_attn_out", "mlp": "hook_mlp_out"}
"""Which module of a block -> what its output is called."""


def read(source: Source) -> StoredSAE:
    """Raises: ArtifactError for what is missing, contradictory or not supported."""
    values = read_json(source.folder / CONFIG)
    if not isinstance(values, dict):
        raise ArtifactError(f"{CONFIG}: got a {type(values).__name__}; expected the mapping that sparsify writes")
    d_in, transcode = positive(values, "d_in", where=CONFIG), bool(values.get("transcode"))
    d_sae, k = _n_latents(values, d_in), positive(values, "k", where=CONFIG)
    shapes = {"encoder.weight": (d_sae, d_in), "encoder.bias": (d_sae,), "W_dec": (d_sae, d_in), "b_dec": (d_in,)}
    if values.get("skip_connection"):
        shapes["W_skip"] = (d_in, d_in)
    weights = checked(read_tensors(source.folder / WEIGHTS), shapes)
    hook_in, hook_out = _hooks(source, transcode=transcode)
    if "W_skip" in weights and not transcode:
        raise ArtifactError(f"{CONFIG}: a skip connection from a module's output to itself; expected transcode")
    return StoredSAE(
        activation=_activation(values, d_sae, k, transcode=transcode),
        W_enc=weights["encoder.weight"],
        W_dec=weights["W_dec"],
        b_enc=weights["encoder.bias"],
        b_dec=weights["b_dec"],
        subtract_b_dec=not transcode,
        hook_out=hook_out,
        k=k,
        W_skip=weights.get("W_skip"),
        facts=_facts(source, hook_in, d_sae, transcode=transcode),
    )


def _n_latents(values: dict[str, Any], d_in: int) -> int:
    if values.get("num_latents"):
        return positive(values, "num_latents", where=CONFIG)
    return d_in * positive(values, "expansion_factor", where=CONFIG)


def _activation(values: dict[str, Any], d_sae: int, k: int, *, transcode: bool) -> Any:
    activation = values.get("activation", "topk")
    if values.get("signed"):
        raise ArtifactError(f"{CONFIG}: signed latents, which fire negatively too; such an SAE is not read")
    if activation not in ("topk", "groupmax") or (transcode and activation == "groupmax"):
        raise ArtifactError(f"{CONFIG}: got activation {activation!r}; supported are topk, and groupmax for SAEs")
    if activation == "groupmax" and d_sae % k:
        raise ArtifactError(f"{CONFIG}: got {d_sae} latents in {k} groups; expected groups of one size")
    return "group_max" if activation == "groupmax" else "topk"


def _name(source: Source) -> str:
    return source.path.name if source.sae_id is None else source.sae_id.rsplit("/", 1)[-1]


def _block(source: Source) -> re.Match[str] | None:
    """The folder is named after a module: layers.3, layers.3.mlp, h.3.attn, gpt_neox.layers.3."""
    return re.search(r"(?:^|\.)(?:layers|layer|h|blocks)[._](\d+)(?:\.(\w+))?$", _name(source))


def _module(source: Source, *, transcode: bool) -> str | None:
    """The part of a block whose output was reconstructed, unless the caller says where that was."""
    found = _block(source)
    return found[2] if found and (transcode or source.hook is None) else None


def _hooks(source: Source, *, transcode: bool) -> tuple[str, str | None]:
    name, found = _name(source), _block(source)
    hook = "hook_embed" if name.rsplit(".", 1)[-1] in ("embed_tokens", "wte", "embed_in") else None
    if found:
        part = {"self_attn": "attn", "attention": "attn"}.get(found[2] or "", found[2] or "")
        hook = f"blocks.{found[1]}.{MODULES[part]}" if part in MODULES else None
    if not transcode:
        return source.hook_or(hook, reason=f"got a folder named {name!r}, which names no module of a model"), None
    if hook is None or not hook.endswith("hook_mlp_out"):
        raise ArtifactError(f"got a transcoder of {name!r}; expected one of an MLP, in a folder such as layers.3.mlp")
    # What the MLP module reads is what the norm before it gives.
    return source.hook or hook.replace("hook_mlp_out", "ln2.hook_out"), hook


def _facts(source: Source, hook: str, d_sae: int, *, transcode: bool) -> SAEFacts:
    run_config = source.folder.parent / RUN_CONFIG
    run = read_json(run_config) if run_config.exists() else {}
    run = run if isinstance(run, dict) else {}
    known = {"dataset": run.get("dataset"), "context_size": run.get("ctx_len")}
    data = {name: value for name, value in known.items() if value is not None}
    architecture, module = "transcoder" if transcode else "topk", _module(source, transcode=transcode)
    return SAEFacts(hook, architecture, (d_sae,), {"name": run.get("model")}, data, module=module)
