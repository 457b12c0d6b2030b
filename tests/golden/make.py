"""Makes the golden files: tiny SAEs in the layout of every format we read, with what they have to give.

`python -m tests.golden.make` writes them anew. Nothing of the workbench is used here: layouts and formulas are written
out once more, from the libraries' published code, so that a reader that is wrong disagrees with them. Beside each SAE,
expected.safetensors holds x, acts and output, computed in float64.
"""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

HERE = Path(__file__).parent
D_IN, D_SAE, D_OUT, N_ROWS, K = 6, 10, 5, 6, 3
HOOK = "blocks.1.hook_resid_post"
Activation = Callable[[Tensor], Tensor]


def numbers(seed: int, *, d_in: int = D_IN, d_sae: int = D_SAE, d_out: int | None = None) -> dict[str, Tensor]:
    """Random weights under SAELens's names and in its orientation, and tokens x to encode."""
    generator = torch.Generator().manual_seed(seed)
    out = d_in if d_out is None else d_out
    shapes = {
        "W_enc": (d_in, d_sae), "W_dec": (d_sae, out), "b_enc": (d_sae,), "b_dec": (out,), "threshold": (d_sae,),
        "b_mag": (d_sae,), "r_mag": (d_sae,), "W_skip": (out, d_in), "x": (N_ROWS, d_in),
    }  # fmt: skip
    made = {name: torch.randn(shape, generator=generator) * 0.5 for name, shape in shapes.items()}
    return made | {"threshold": made["threshold"].abs(), "x": made["x"] * 3 + 0.5}


def relu(pre: Tensor) -> Tensor:
    return pre.clamp(min=0)


def topk(k: int) -> Activation:
    def function(pre: Tensor) -> Tensor:
        best = pre.topk(k, dim=1)
        return torch.zeros_like(pre).scatter(1, best.indices, best.values.clamp(min=0))

    return function


def jumprelu(threshold: Tensor) -> Activation:
    return lambda pre: pre.clamp(min=0) * (pre > threshold)


def groupmax(k: int) -> Activation:
    def function(pre: Tensor) -> Tensor:
        groups = pre.clamp(min=0).unflatten(1, (k, -1))
        best = groups == groups.amax(2, keepdim=True)
        return (groups * best).flatten(1)

    return function


def run(w: Mapping[str, Tensor], activation: Activation, *, subtract: bool = True, skip: bool = False) -> list[Tensor]:
    """acts and output by the formula, of w["x"]."""
    w = {name: tensor.double() for name, tensor in w.items()}
    acts = activation((w["x"] - (w["b_dec"] if subtract else 0)) @ w["W_enc"] + w["b_enc"])
    output = acts @ w["W_dec"] + w["b_dec"]
    return [acts, output + w["x"] @ w["W_skip"].t() if skip else output]


def expect(folder: Path, x: Tensor, acts: Tensor, output: Tensor, name: str = "expected") -> None:
    tensors = {"x": x, "acts": acts, "output": output}
    save_file({key: t.float().contiguous() for key, t in tensors.items()}, folder / f"{name}.safetensors")


def write_saelens(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor], file: str = "sae_weights"
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cfg.json").write_text(json.dumps(config, indent=1) + "\n")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / f"{file}.safetensors")


def version_6(architecture: str, *, metadata: Mapping[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    names = {"sae_lens_version": "6.54.12", "hook_name": HOOK, "model_name": "tiny", **(metadata or {})}
    base = {"architecture": architecture, "d_in": D_IN, "d_sae": D_SAE, "dtype": "float32", "device": "cpu"}
    return {**base, "apply_b_dec_to_input": True, "normalize_activations": "none", **settings, "metadata": names}


def version_3(**settings: Any) -> dict[str, Any]:
    """Flat, the hook under its first name."""
    names = {"model_name": "tiny", "hook_point": HOOK, "hook_point_layer": 1, "hook_point_head_index": None}
    return {**names, "d_in": D_IN, "d_sae": D_SAE, "dtype": "torch.float32", "normalize_activations": False, **settings}


def pick(w: Mapping[str, Tensor], *names: str) -> dict[str, Tensor]:
    return {name: w[name] for name in ("W_enc", "W_dec", "b_dec", *names)}


def saelens(root: Path) -> None:
    w = numbers(1)
    plain = {"standard": (relu, {}, ("b_enc",)), "topk": (topk(K), {"k": K}, ("b_enc",))}
    for name, (function, settings, more) in plain.items():
        write_saelens(root / f"v6_{name}", version_6(name, **settings), pick(w, *more))
        expect(root / f"v6_{name}", w["x"], *run(w, function))
    write_saelens(root / "v6_jumprelu", version_6("jumprelu"), pick(w, "b_enc", "threshold"))
    expect(root / "v6_jumprelu", w["x"], *run(w, jumprelu(w["threshold"].double())))
    gate = pick(w, "b_mag", "r_mag") | {"b_gate": w["b_enc"]}
    write_saelens(root / "v6_gated", version_6("gated"), gate)
    expect(root / "v6_gated", w["x"], *gated(w))
    write_saelens(root / "v6_hook_z", _at_z(), pick(w, "b_enc"))
    expect(root / "v6_hook_z", w["x"], *run(w, relu))
    saelens_normalised(root, w)
    saelens_transcoders(root, numbers(2, d_out=D_OUT))
    saelens_older(root, w)


def gated(w: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    w = {name: tensor.double() for name, tensor in w.items()}
    product = (w["x"] - w["b_dec"]) @ w["W_enc"]
    acts = (product + w["b_enc"] > 0) * (product * w["r_mag"].exp() + w["b_mag"]).clamp(min=0)
    return acts, acts @ w["W_dec"] + w["b_dec"]


def _at_z() -> dict[str, Any]:
    return version_6("standard", metadata={"hook_name": "blocks.1.attn.hook_z"}, reshape_activations="hook_z")


def saelens_normalised(root: Path, w: Mapping[str, Tensor]) -> None:
    x = w["x"].double()
    mean, deviation = x.mean(1, keepdim=True), x.std(1, keepdim=True)
    norm = x.norm(dim=1, keepdim=True) / math.sqrt(D_IN)
    centred = {"metadata": {"model_from_pretrained_kwargs": {"center_writing_weights": True}}}
    scalar = {"normalize_activations": "constant_scalar_rescale", "activation_normalization_factor": 0.4}
    cases: dict[str, tuple[dict[str, Any], Any, Any, Any]] = {
        "layer_norm": ({"normalize_activations": "layer_norm"}, (x - mean) / (deviation + 1e-5), deviation, mean),
        "constant_norm_rescale": ({"normalize_activations": "constant_norm_rescale"}, x / norm, norm, 0),
        "expected_average_only_in": ({"normalize_activations": "expected_average_only_in"}, x * 0.4, 1 / 0.4, 0),
        "constant_scalar_rescale": (scalar, x * 0.4, 1 / 0.4, 0),
        "center_writing_weights": (centred, x - mean, 1, mean),
    }
    for name, (settings, normalised, scale, offset) in cases.items():
        folder = root / f"v6_{name}"
        write_saelens(folder, version_6("standard", **settings), pick(w, "b_enc"))
        acts, output = run({**w, "x": normalised}, relu)
        expect(folder, w["x"], acts, output * scale + offset)
        if name == "expected_average_only_in":
            (folder / "activation_scaler.json").write_text('{"scaling_factor": 0.4}')


def saelens_transcoders(root: Path, w: Mapping[str, Tensor]) -> None:
    out = {"hook_name": "blocks.1.ln2.hook_out", "hook_name_out": "blocks.1.hook_mlp_out"}
    steps = {"": (relu, ()), "jumprelu_": (jumprelu(w["threshold"].double()), ("threshold",))}
    for prefix, (function, more) in steps.items():
        for skip in (False, True):
            name = f"{prefix}{'skip_' * skip}transcoder"
            config = version_6(name, metadata=out, d_out=D_OUT, apply_b_dec_to_input=False)
            write_saelens(root / f"v6_{name}", config, pick(w, "b_enc", *more, *(["W_skip"] * skip)))
            expect(root / f"v6_{name}", w["x"], *run(w, function, subtract=False, skip=skip))


def saelens_older(root: Path, w: Mapping[str, Tensor]) -> None:
    factors = {"scaling_factor": torch.linspace(0.5, 1.5, D_SAE)}
    cases = {
        "v3_standard": (version_3(), relu, {"scaling_factor": torch.ones(D_SAE)}),
        "v3_topk": (version_3(activation_fn_str="topk", activation_fn_kwargs={"k": K}), topk(K), {}),
        "v3_finetuned": (version_3(finetuning_scaling_factor=True), relu, factors),
    }
    for name, (config, function, more) in cases.items():
        write_saelens(root / name, config, pick(w, "b_enc") | more)
        acts, output = run(w, function)
        if name == "v3_finetuned":
            output = (acts * factors["scaling_factor"]) @ w["W_dec"].double() + w["b_dec"].double()
        expect(root / name, w["x"], acts, output)


def sparsify(root: Path) -> None:
    w = numbers(3, d_sae=9)
    cases: dict[str, tuple[str, dict[str, Any], Activation]] = {
        "topk": ("layers.1", {}, topk(K)),
        "groupmax": ("layers.1.attn", {"activation": "groupmax"}, groupmax(K)),
        "skip_transcoder": ("layers.1.mlp", {"transcode": True, "skip_connection": True}, topk(K)),
    }
    for name, (module, settings, function) in cases.items():
        skip = "transcode" in settings
        tensors = {
            "encoder.weight": w["W_enc"].t(),
            "encoder.bias": w["b_enc"],
            "W_dec": w["W_dec"],
            "b_dec": w["b_dec"],
        }
        config = {"expansion_factor": 32, "num_latents": 9, "k": K, "d_in": D_IN, **settings}
        write_saelens(root / name / module, config, tensors | ({"W_skip": w["W_skip"]} if skip else {}), "sae")
        expect(root / name / module, w["x"], *run(w, function, subtract=not skip, skip=skip))
    (root / "topk" / "config.json").write_text('{"model": "tiny", "dataset": "stories", "ctx_len": 24}')


def dictionary_learning(root: Path) -> None:
    w = numbers(4)
    threshold, norm = w["threshold"].double(), w["W_dec"].double().norm(dim=1)
    linear = {"encoder.weight": w["W_enc"].t(), "decoder.weight": w["W_dec"].t()}
    matrices = {"W_enc": w["W_enc"], "W_dec": w["W_dec"], "b_enc": w["b_enc"], "b_dec": w["b_dec"]}
    chosen = {**linear, "encoder.bias": w["b_enc"], "b_dec": w["b_dec"], "k": torch.tensor(K, dtype=torch.int)}
    gate = {"decoder_bias": w["b_dec"], "r_mag": w["r_mag"], "gate_bias": w["b_enc"], "mag_bias": w["b_mag"]}
    low, groups = {"threshold": torch.tensor(0.2)}, {"group_sizes": torch.tensor([4, 6])}
    (acts, output), above = run(w, relu), run(w, jumprelu(torch.tensor(0.2)))
    cases: dict[str, tuple[dict[str, Tensor], Any]] = {
        # The loader of this class alone moves the decoder's norms into the features.
        "AutoEncoder": ({**linear, "encoder.bias": w["b_enc"], "bias": w["b_dec"]}, (acts * norm, output)),
        "AutoEncoderNew": (
            {**linear, "encoder.bias": w["b_enc"], "decoder.bias": w["b_dec"]}, run(w, relu, subtract=False)
        ),
        "GatedAutoEncoder": ({**linear, **gate}, gated(w)),
        "AutoEncoderTopK": ({**chosen, "threshold": torch.tensor(-1.0)}, run(w, topk(K))),
        "BatchTopKSAE": ({**chosen, **low}, above),
        "MatryoshkaBatchTopKSAE": ({**matrices, "k": chosen["k"], **low, **groups}, above),
        "JumpReluAutoEncoder": (
            {**matrices, "threshold": w["threshold"]}, run(w, jumprelu(threshold), subtract=False)
        ),
    }  # fmt: skip
    for name, (state, results) in cases.items():
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        trainer = {
            "dict_class": name,
            "activation_dim": D_IN,
            "dict_size": D_SAE,
            "layer": 1,
            "lm_name": "tiny",
            "submodule_name": "resid_post_layer_1",
            "k": K,
        }
        (folder / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {"ctx_len": 24, "io": "out"}}))
        torch.save({key: tensor.contiguous() for key, tensor in state.items()}, folder / "ae.pt")
        expect(folder, w["x"], *results)


def gemma_scope(root: Path, *, d_in: int = D_IN, d_sae: int = D_SAE) -> None:
    w = numbers(5, d_in=d_in, d_sae=d_sae)
    function = jumprelu(w["threshold"].double())
    for site in ("res", "transcoders"):
        folder = root / f"gemma-scope-2b-pt-{site}" / "layer_1" / "width_16k" / "average_l0_3"
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / "params.npz", **{n: t.numpy() for n, t in pick(w, "b_enc", "threshold").items()})
        expect(folder, w["x"], *run(w, function, subtract=False))
    folder = root / "gemma-scope-2-1b-pt" / "transcoder" / "layer_1_width_16k_l0_small_affine"
    folder.mkdir(parents=True, exist_ok=True)
    small = {"w_enc": w["W_enc"], "w_dec": w["W_dec"], "affine_skip_connection": w["W_skip"]}
    rest = {name: w[name] for name in ("b_enc", "b_dec", "threshold")}
    save_file({**small, **rest}, folder / "params.safetensors")
    expect(folder, w["x"], *run(w, function, subtract=False, skip=True))


def openai(root: Path) -> None:
    w = numbers(6)
    x = w["x"].double()
    mean, deviation = x.mean(1, keepdim=True), x.std(1, keepdim=True)
    state: dict[str, Any] = {
        "pre_bias": w["b_dec"], "latent_bias": w["b_enc"], "encoder.weight": w["W_enc"].t().contiguous(),
        "decoder.weight": w["W_dec"].t().contiguous(), "stats_last_nonzero": torch.zeros(D_SAE, dtype=torch.long),
    }  # fmt: skip
    chosen = {"activation": "TopK", "activation_state_dict": {"k": K, "postact_fn": "ReLU"}}
    acts, output = run({**w, "x": (x - mean) / (deviation + 1e-5)}, topk(K))
    cases = {
        "resid_post_mlp_v5_32k": (state | chosen, (acts, output * deviation + mean)),
        "resid_delta_attn_v4": ({**state, "activation": "ReLU"}, run(w, relu)),
    }
    for site, (contents, results) in cases.items():
        folder = root / site / "autoencoders"
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(contents, folder / "1.pt")
        expect(folder, w["x"], *results)


def llama_scope(root: Path, *, d_in: int = D_IN, d_sae: int = D_SAE) -> None:
    """Trained on s·x with s = √d / 2.5; feature values and the first release's threshold are those of raw x."""
    w = numbers(7, d_in=d_in, d_sae=d_sae)
    w["W_dec"] = w["W_dec"] / w["W_dec"].norm(dim=1, keepdim=True)
    scale = math.sqrt(d_in) / 2.5
    tensors = {
        "encoder.weight": w["W_enc"].t().contiguous(), "encoder.bias": w["b_enc"],
        "decoder.weight": w["W_dec"].t().contiguous(), "decoder.bias": w["b_dec"],
    }  # fmt: skip
    norms = {"dataset_average_activation_norm": {"in": 2.5, "out": 2.5}}
    hooks = {"hook_point_in": HOOK, "hook_point_out": HOOK, "d_model": d_in}
    settings = {"act_fn": "jumprelu", "norm_activation": "dataset-wise", "sparsity_include_decoder_norm": True}
    first, second = root / "Llama3_1-8B-Base-L1R-8x", root / "Llama-Scope-R1-Distill" / "L1R"
    (first / "checkpoints").mkdir(parents=True, exist_ok=True)
    config = {**hooks, **settings, **norms, "d_sae": d_sae, "jump_relu_threshold": 0.3}
    (first / "hyperparams.json").write_text(json.dumps(config, indent=1))
    save_file(tensors, first / "checkpoints" / "final.safetensors")
    acts, output = run({**w, "x": w["x"] * scale}, jumprelu(torch.tensor(0.3 * scale)), subtract=False)
    expect(first, w["x"], acts / scale, output / scale)
    second.mkdir(parents=True, exist_ok=True)
    (second / "config.json").write_text(json.dumps({**hooks, **settings, **norms, "d_sae": d_sae}, indent=1))
    save_file({**tensors, "log_jumprelu_threshold": w["threshold"].log()}, second / "sae_weights.safetensors")
    acts, output = run({**w, "x": w["x"] * scale}, jumprelu(w["threshold"].double()), subtract=False)
    expect(second, w["x"], acts / scale, output / scale)


FORMATS = (saelens, sparsify, dictionary_learning, gemma_scope, openai, llama_scope)

if __name__ == "__main__":
    for make in FORMATS:
        make(HERE / make.__name__)
