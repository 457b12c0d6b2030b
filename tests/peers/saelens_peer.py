"""Runs where SAELens is installed: reads what we wrote, writes SAEs for us, reads releases with its own loaders.

Argument: a folder with inputs.safetensors and `ours/<case>` to be read; the releases are in the hub's cache. It writes
`theirs/saelens/<case>` and, for everything, `results/<name>.safetensors` with acts and output.
"""

import json
import sys
from pathlib import Path

import sae_lens
import torch
from sae_lens import SAE
from sae_lens.loading import pretrained_sae_loaders as loaders
from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from sae_lens.saes.matryoshka_batchtopk_sae import MatryoshkaBatchTopKTrainingSAE, MatryoshkaBatchTopKTrainingSAEConfig
from sae_lens.saes.sae import SAEMetadata
from safetensors.torch import load_file, save_file

ROOT = Path(sys.argv[1])
X = load_file(ROOT / "inputs.safetensors")["x"]
D_IN, D_SAE, N_HEADS = X.shape[1], 24, 4
HOOK, HOOK_OUT = "blocks.1.hook_resid_post", "blocks.1.hook_mlp_out"


def record(name, acts, output):
    path = ROOT / "results" / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    acts = acts.to_dense() if acts.is_sparse else acts
    save_file({"acts": acts.detach().contiguous(), "output": output.detach().contiguous()}, path)


def record_hooks(name, config):
    hooks = {"in": config["hook_name"], "out": config.get("hook_name_out") or config["hook_name"]}
    (ROOT / "results" / f"{name}.json").write_text(json.dumps(hooks))


def run(sae, x):
    """What a user of the library gets; a skip connection acts in `forward` only."""
    kwargs = sae.cfg.metadata.model_from_pretrained_kwargs or {}
    # SAELens leaves it to the user to load the model with centred weights: its stream then has no mean.
    mean = x.mean(1, keepdim=True) if kwargs.get("center_writing_weights") else torch.zeros_like(x[:, :1])
    x = x - mean
    if sae.cfg.reshape_activations == "hook_z":
        x = x.unflatten(1, (N_HEADS, -1))
    acts = sae.encode(x)
    output = sae.decode(acts)
    output = output + x @ sae.W_skip.T if hasattr(sae, "W_skip") else output
    return acts, output.reshape(x.shape[0], -1) + mean


def randomise(sae):
    for name, parameter in sae.named_parameters():
        parameter.copy_(torch.randn(parameter.shape) * 0.3)
        if "threshold" in name:
            parameter.copy_(torch.rand(parameter.shape))
    return sae


def make():
    """(case, SAE) for every architecture and setting that the library saves."""
    names = {"hook_name": HOOK, "model_name": "tiny", "context_size": 24, "prepend_bos": True}
    base = {"d_in": D_IN, "d_sae": D_SAE}

    def sae(kind, more_names=None, **settings):
        config = getattr(sae_lens, f"{kind}Config")
        metadata = SAEMetadata(**names, **(more_names or {}))
        return getattr(sae_lens, kind)(config(**base, **settings, metadata=metadata))

    yield "topk", sae("TopKSAE", k=3)
    yield "topk, rescaled by decoder norm", sae("TopKSAE", k=3, rescale_acts_by_decoder_norm=True)
    yield "standard", sae("StandardSAE")
    yield "standard, b_dec not applied to input", sae("StandardSAE", apply_b_dec_to_input=False)
    yield "jumprelu", sae("JumpReLUSAE")
    yield "gated", sae("GatedSAE")
    yield "gated, b_dec not applied to input", sae("GatedSAE", apply_b_dec_to_input=False)
    for mode in ("layer_norm", "constant_norm_rescale"):
        yield f"standard, {mode}", sae("StandardSAE", normalize_activations=mode)
    yield "topk, layer_norm", sae("TopKSAE", k=3, normalize_activations="layer_norm")
    centred = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}
    yield "standard, center_writing_weights", sae("StandardSAE", centred)
    z = SAEMetadata(**{**names, "hook_name": "blocks.1.attn.hook_z"})
    config = sae_lens.TopKSAEConfig(**base, k=3, reshape_activations="hook_z", metadata=z)
    yield "topk, hook_z", sae_lens.TopKSAE(config)
    out = {"hook_name_out": HOOK_OUT}
    transcoder = {"d_out": 12, "apply_b_dec_to_input": False}
    for kind in ("Transcoder", "SkipTranscoder", "JumpReLUTranscoder", "JumpReLUSkipTranscoder"):
        yield kind, _transcoder(kind, SAEMetadata(**names, **out), **base, **transcoder)
    metadata = SAEMetadata(**names)
    batch = BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(**base, k=3, metadata=metadata))
    batch.topk_threshold.fill_(0.4)
    yield "batchtopk", batch
    config = MatryoshkaBatchTopKTrainingSAEConfig(**base, k=3, matryoshka_widths=[12, 24], metadata=metadata)
    nested = MatryoshkaBatchTopKTrainingSAE(config)
    nested.topk_threshold.fill_(0.4)
    yield "matryoshka_batchtopk", nested


def _transcoder(kind, metadata, **settings):
    module = sys.modules["sae_lens.saes.transcoder"]
    return getattr(module, kind)(getattr(module, f"{kind}Config")(**settings, metadata=metadata))


def write(case, sae):
    folder = ROOT / "theirs" / "saelens" / case
    getattr(randomise(sae), "save_inference_model", sae.save_model)(folder)
    loaded = SAE.load_from_disk(folder)
    record(f"saelens/{case}", *run(loaded, X))


def write_older():
    """Layouts of versions before 6, which it reads by conversion, and a checkpoint whose scale is beside it."""
    flat = {
        "model_name": "tiny", "hook_point": HOOK, "hook_point_layer": 1, "d_in": D_IN, "d_sae": D_SAE,
        "dtype": "torch.float32", "device": "cpu", "normalize_activations": False, "finetuning_scaling_factor": False,
        "context_size": 24, "prepend_bos": True,
    }  # fmt: skip
    topk = {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 3}}
    for case, changes in {"version 3, standard": {}, "version 3, topk": topk}.items():
        folder = ROOT / "theirs" / "saelens" / case
        folder.mkdir(parents=True)
        source = load_file(ROOT / "theirs" / "saelens" / "standard" / "sae_weights.safetensors")
        save_file({**source, "scaling_factor": torch.ones(D_SAE)}, folder / "sae_weights.safetensors")
        (folder / "cfg.json").write_text(json.dumps(flat | {"dtype": "float32"} | changes))
        record(f"saelens/{case}", *run(SAE.load_from_disk(folder), X))
    case = "standard, expected_average_only_in"
    folder = ROOT / "theirs" / "saelens" / case
    sae = SAE.load_from_disk(ROOT / "theirs" / "saelens" / "standard")
    sae.cfg.normalize_activations = "expected_average_only_in"
    sae.save_model(folder)
    (folder / "activation_scaler.json").write_text(json.dumps({"scaling_factor": 0.37}))
    sae.fold_activation_norm_scaling_factor(0.37)
    record(f"saelens/{case}", *run(sae, X))


def from_converter(config, state):
    config = loaders.handle_config_defaulting(config)
    sae = SAE.from_dict(config)
    sae.load_state_dict(state)
    return sae


def read_releases():
    """Files as others release them, by the loaders that SAELens has for them. The hub's cache holds them."""
    sizes = {"d_in": D_IN, "d_sae": D_SAE, "dtype": "float32", "device": "cpu"}
    repository, case = "google/gemma-scope-2b-pt-res", "layer_1/width_16k/average_l0_3"
    config, state, _ = loaders.gemma_2_sae_huggingface_loader(repository, case, cfg_overrides=sizes)
    record("gemma_scope/jumprelu", *run(from_converter(config, state), X))
    record_hooks("gemma_scope/jumprelu", config)
    repository = "google/gemma-scope-2b-pt-transcoders"
    config, state, _ = loaders.gemma_2_transcoder_huggingface_loader(
        repository, case, cfg_overrides={**sizes, "d_out": D_IN}
    )
    record("gemma_scope/transcoder", *run(from_converter(config, state), X))
    record_hooks("gemma_scope/transcoder", config)
    repository, case = "fnlp/Llama3_1-8B-Base-LXR-8x", "Llama3_1-8B-Base-L1R-8x"
    config, state, _ = loaders.llama_scope_sae_huggingface_loader(repository, case, cfg_overrides={"dtype": "float32"})
    sae = from_converter(config, state)
    sae.fold_activation_norm_scaling_factor(D_IN**0.5 / 2.5)
    acts, output = run(sae, X)
    # SAELens keeps feature values in the units of training, the release's own loader in those of raw activations.
    record("llama_scope/jumprelu", acts / (D_IN**0.5 / 2.5), output)
    record_hooks("llama_scope/jumprelu", config)


with torch.no_grad():
    torch.manual_seed(0)
    for folder in sorted((ROOT / "ours").iterdir()):
        record(f"ours/{folder.name}", *run(SAE.load_from_disk(folder), X))
    for case, sae in make():
        write(case, sae)
    write_older()
    read_releases()
