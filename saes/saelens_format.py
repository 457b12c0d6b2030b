"""The layout of SAELens 6: what stands in cfg.json and sae_weights.safetensors, and what of it we can read.

Axes: d width of the activations, f features. Weights are [f, d] in memory; on disk W_enc is [d, f].
Format: SAE.load_from_disk of SAELens 6.54. A tensor that its loader does not expect breaks it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import ArtifactError, ConfigError
from saes.architectures import ARCHITECTURES
from saes.base import SAE
from saes.config import SAEConfig
from saes.jumprelu import JumpReLUSAE

FORMAT_VERSION = "6.54.12"
"""The version of SAELens against which the layout was checked; its loader takes less than 6 for an older layout."""
TRAINING_NAMES = {
    "topk": "topk",
    "batch_topk": "batchtopk",
    "matryoshka": "matryoshka_batchtopk",
    "standard": "standard",
}
"""Our names of architectures -> SAELens's."""
SHAPES = {"W_enc": ("d_in", "d_sae"), "W_dec": ("d_sae", "d_in"), "b_enc": ("d_sae",), "b_dec": ("d_in",)}
MORE_SHAPES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "topk": {},
    "standard": {},
    "jumprelu": {"threshold": ("d_sae",)},
}
"""By architecture that we read and write: tensors beside those that all have."""


@dataclass(frozen=True, slots=True)
class StoredSAE:
    """A folder's content, validated, with everything folded that our SAEs do not do at run time."""

    kind: type[SAE]
    config: SAEConfig
    hook: str
    W_enc: Float[Tensor, "f d"]
    W_dec: Float[Tensor, "f d"]
    b_enc: Float[Tensor, " f"]
    b_dec: Float[Tensor, " d"]
    threshold: Float[Tensor, " f"] | Float[Tensor, ""]

    def build(self, device: torch.device | str) -> SAE:
        """The SAE itself, for inference."""
        d_in, dtype = self.W_enc.shape[1], self.W_enc.dtype
        sae = self.kind(self.config, d_in, hooks_in=(self.hook,), device=device, dtype=dtype)
        with torch.no_grad():
            for name in ("W_enc", "W_dec", "b_enc", "b_dec", "threshold"):
                getattr(sae, name).copy_(getattr(self, name))
        return sae.eval()


def to_saelens(sae: SAE, facts: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """cfg.json and tensors of a folded SAE. What selects by a threshold is written as JumpReLU."""
    config, hook = sae.config, sae.hooks_in[0]
    threshold = sae.threshold.expand(sae.d_sae)
    architecture: str = config.architecture
    if architecture in ("batch_topk", "matryoshka") or isinstance(sae, JumpReLUSAE):
        architecture = "jumprelu"
    tensors = {"W_enc": sae.W_enc.t(), "W_dec": sae.W_dec, "b_enc": sae.b_enc, "b_dec": sae.b_dec}
    if architecture == "jumprelu":
        tensors["threshold"] = threshold
    values: dict[str, Any] = {
        "architecture": architecture,
        "d_in": sae.d_in,
        "d_sae": sae.d_sae,
        "dtype": str(sae.W_enc.dtype).removeprefix("torch."),
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "hook_z" if hook.endswith("hook_z") else "none",
        "metadata": _metadata(config, hook, facts),
    }
    if architecture == "topk":
        values |= {"k": config.k, "rescale_acts_by_decoder_norm": False}
    return values, {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}


def _metadata(config: SAEConfig, hook: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    model, data = facts.get("model", {}), facts.get("data", {})
    details: dict[str, Any] = {} if config.architecture == "standard" else {"k": config.k}
    if config.architecture == "matryoshka":
        details["matryoshka_widths"] = list(config.prefix_widths())
    return {
        "sae_lens_version": FORMAT_VERSION,
        "sae_lens_training_version": None,
        "model_name": model.get("name"),
        "model_from_pretrained_kwargs": {},
        "hook_name": hook,
        "hook_head_index": None,
        "context_size": data.get("context_size"),
        "prepend_bos": data.get("prepend_bos"),
        "dataset_path": data.get("dataset"),
        "training_architecture": TRAINING_NAMES[config.architecture],
        "training_architecture_details": details,
    }


def from_saelens(values: Any, tensors: Mapping[str, Tensor], own: SAEConfig | None = None) -> StoredSAE:
    """What cfg.json and the weights say; `own` is the config in our interp.json where there is one.

    Raises: ArtifactError for what is missing, contradictory or not supported. Messages do not name the folder.
    """
    _check_values(values)
    architecture, metadata = values["architecture"], values["metadata"]
    _check_tensors(architecture, values, tensors)
    weights = {name: tensor.float() if tensor.dtype.itemsize < 4 else tensor for name, tensor in tensors.items()}
    W_enc, W_dec = weights["W_enc"].t().contiguous(), weights["W_dec"]
    b_enc, b_dec = weights["b_enc"], weights["b_dec"]
    if values.get("rescale_acts_by_decoder_norm"):
        norm = torch.linalg.vector_norm(W_dec, dim=1)
        W_enc, b_enc, W_dec = W_enc * norm[:, None], b_enc * norm, W_dec / norm[:, None]
    if not values.get("apply_b_dec_to_input", True):
        b_enc = b_enc + W_enc @ b_dec
    threshold = weights.get("threshold", b_enc.new_zeros(values["d_sae"]))
    config = own or _foreign_config(values, threshold)
    _check_own(config, values)
    kind = _kind(architecture, config)
    if kind is not JumpReLUSAE:
        threshold = _the_one(threshold)
    return StoredSAE(kind, config, metadata["hook_name"], W_enc, W_dec, b_enc, b_dec, threshold)


def _kind(architecture: str, config: SAEConfig) -> type[SAE]:
    if architecture == "jumprelu" and config.architecture not in ("batch_topk", "matryoshka"):
        return JumpReLUSAE
    return ARCHITECTURES[config.architecture]


def _the_one(threshold: Float[Tensor, " f"]) -> Float[Tensor, ""]:
    if bool((threshold != threshold[0]).any()):
        raise ArtifactError("threshold: got different values; expected one for all features of a batch_topk SAE")
    return threshold[0]


def _foreign_config(values: Mapping[str, Any], threshold: Float[Tensor, " f"]) -> SAEConfig:
    """Our config for an SAE that SAELens trained; what it does not say keeps its default."""
    d_sae, details = values["d_sae"], values["metadata"].get("training_architecture_details") or {}
    known: dict[str, Any] = {"architecture": "standard", "d_sae": d_sae, "n_prefixes": 1}
    if values["architecture"] == "topk":
        known |= {"architecture": "topk", "k": values.get("k")}
    uniform = values["architecture"] == "jumprelu" and bool((threshold == threshold[0]).all())
    trained = values["metadata"].get("training_architecture")
    if uniform and trained in ("batchtopk", "matryoshka_batchtopk") and "k" in details:
        known |= {"architecture": "batch_topk", "k": max(1, round(details["k"]))}
        if trained == "matryoshka_batchtopk" and details.get("matryoshka_widths"):
            known |= {"architecture": "matryoshka", "prefixes": details["matryoshka_widths"]}
    try:
        return SAEConfig.parse(known, source="cfg.json")
    except ConfigError as error:
        raise ArtifactError(str(error)) from None


def _check_values(values: Any) -> None:
    if not isinstance(values, dict) or not isinstance(values.get("metadata"), dict):
        raise ArtifactError("cfg.json: no metadata in it; expected SAELens 6: load and save it with SAELens 6 first")
    metadata = values["metadata"]
    version = str(metadata.get("sae_lens_version", "0"))
    if not version.split(".")[0].isdigit() or int(version.split(".")[0]) < 6:
        raise ArtifactError(
            f"cfg.json: got SAELens version {version}; expected 6: load and save it with SAELens 6 first"
        )
    architecture = values.get("architecture")
    if architecture not in MORE_SHAPES:
        known = ", ".join(MORE_SHAPES)
        raise ArtifactError(f"cfg.json: got architecture {architecture!r}; supported are {known}; choose one of these")
    for name in ("d_in", "d_sae"):
        if not isinstance(values.get(name), int) or values[name] < 1:
            raise ArtifactError(f"cfg.json: {name}: got {values.get(name)!r}; expected a positive number")
    if values.get("normalize_activations", "none") != "none":
        raise ArtifactError(
            f"cfg.json: got normalize_activations {values['normalize_activations']!r}; expected none; "
            "fold it into the weights with SAELens first"
        )
    if not isinstance(metadata.get("hook_name"), str):
        raise ArtifactError("cfg.json: no metadata.hook_name; add the hook that the SAE was trained at")
    altered = {name: value for name, value in (metadata.get("model_from_pretrained_kwargs") or {}).items() if value}
    if altered:
        raise ArtifactError(
            f"cfg.json: trained on a model loaded with {altered}; expected an unaltered one, as it is here"
        )


def _check_tensors(architecture: str, values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    shapes = {**SHAPES, **MORE_SHAPES[architecture]}
    if set(shapes) != set(tensors):
        name = sorted(set(shapes) ^ set(tensors))[0]
        fault = "is missing" if name in shapes else "does not belong there"
        raise ArtifactError(f"weights: tensor {name} {fault}; expected {', '.join(shapes)} for {architecture}")
    for name, axes in shapes.items():
        expected = tuple(values[axis] for axis in axes)
        tensor = tensors[name]
        if tuple(tensor.shape) != expected or not tensor.is_floating_point():
            got = f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
            raise ArtifactError(
                f"weights: {name}: got {got}; cfg.json says {expected} numbers; they do not belong together"
            )
        if not bool(torch.isfinite(tensor).all()):
            n_bad = int((~torch.isfinite(tensor)).sum())
            raise ArtifactError(
                f"weights: {name}: {n_bad} of {tensor.numel()} entries are NaN or infinite; train it again"
            )


def _check_own(config: SAEConfig, values: Mapping[str, Any]) -> None:
    """Our own config must agree with what SAELens would read."""
    said = {"d_sae": values["d_sae"]} | ({"k": values.get("k")} if values["architecture"] == "topk" else {})
    for name, value in said.items():
        if getattr(config, name) != value:
            raise ArtifactError(
                f"{name}: got {value!r} in cfg.json and {getattr(config, name)} in interp.json; restore both"
            )
    jumprelu = values["architecture"] == "jumprelu"
    if config.architecture != values["architecture"] and not (jumprelu and config.architecture != "topk"):
        raise ArtifactError(
            f"architecture: got {values['architecture']} in cfg.json and {config.architecture} in interp.json; "
            "restore both"
        )
