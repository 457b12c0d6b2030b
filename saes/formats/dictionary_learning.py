"""dictionary_learning: ae.pt, a state dict, with config.json beside it, whose `trainer` names the class.

Format: utils.load_dictionary of dictionary_learning 0.1. nn.Linear keeps the decoder as [d, f].
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from interp.errors import ArtifactError
from interp.storage import read_json
from saes.facts import SAEFacts
from saes.formats.source import Source
from saes.formats.stored import Activation, StoredSAE
from saes.formats.tensors import checked, positive, read_torch

CONFIG, WEIGHTS = "config.json", "ae.pt"
LINEAR = {"encoder.weight": "fd", "decoder.weight": "df"}
MATRICES = {"W_enc": "df", "W_dec": "fd", "b_enc": "f", "b_dec": "d"}
CLASSES: Mapping[str, tuple[Activation, str, Mapping[str, str]]] = {
    "AutoEncoder": ("relu", "standard", LINEAR | {"encoder.bias": "f", "bias": "d"}),
    "AutoEncoderNew": ("relu", "standard", LINEAR | {"encoder.bias": "f", "decoder.bias": "d"}),
    "GatedAutoEncoder": (
        "gated",
        "gated",
        LINEAR | {"decoder_bias": "d", "r_mag": "f", "gate_bias": "f", "mag_bias": "f"},
    ),
    "AutoEncoderTopK": ("topk", "topk", LINEAR | {"encoder.bias": "f", "b_dec": "d"}),
    "BatchTopKSAE": ("jumprelu", "batch_topk", LINEAR | {"encoder.bias": "f", "b_dec": "d"}),
    "MatryoshkaBatchTopKSAE": ("jumprelu", "matryoshka", MATRICES),
    "JumpReluAutoEncoder": ("jumprelu", "jumprelu", MATRICES | {"threshold": "f"}),
}
"""dict_class -> activation, our name, tensors with their axes."""
OUR_NAMES = {
    "encoder.bias": "b_enc", "gate_bias": "b_enc", "bias": "b_dec", "decoder.bias": "b_dec", "decoder_bias": "b_dec",
    "mag_bias": "b_mag",
}  # fmt: skip
ONE_THRESHOLD = ("BatchTopKSAE", "MatryoshkaBatchTopKSAE")
COUNTERS = ("k", "threshold", "group_sizes")
"""Buffers of the classes that select by k; the threshold is one number there, negative if none was found."""


def read(source: Source) -> StoredSAE:
    """Raises: ArtifactError for what is missing, contradictory or not supported."""
    config = read_json(source.folder / CONFIG)
    trainer = config.get("trainer") if isinstance(config, dict) else None
    if not isinstance(trainer, dict):
        raise ArtifactError(f"{CONFIG}: names no trainer; expected what dictionary_learning writes beside ae.pt")
    name = str(trainer.get("dict_class"))
    if name not in CLASSES:
        raise ArtifactError(f"{CONFIG}: got dict_class {name!r}; supported are {', '.join(CLASSES)}")
    activation, architecture, axes = CLASSES[name]
    d, f = (positive(trainer, size, where=CONFIG) for size in ("activation_dim", "dict_size"))
    tensors = read_torch(source.folder / WEIGHTS)
    shapes = {key: tuple({"d": d, "f": f}[axis] for axis in letters) for key, letters in axes.items()}
    counters = tuple(key for key in COUNTERS if key not in axes)
    weights = {OUR_NAMES.get(key, key): t for key, t in checked(tensors, shapes, ignored=counters).items()}
    prefixes = _prefixes(tensors, f) if architecture == "matryoshka" else (f,)
    stored = StoredSAE(
        activation=activation,
        W_enc=weights["encoder.weight"] if "encoder.weight" in weights else weights["W_enc"].t().contiguous(),
        W_dec=weights["decoder.weight"].t().contiguous() if "decoder.weight" in weights else weights["W_dec"],
        b_enc=weights["b_enc"],
        b_dec=weights["b_dec"],
        subtract_b_dec=name not in ("AutoEncoderNew", "JumpReluAutoEncoder"),
        k=positive(trainer, "k", where=CONFIG) if "TopK" in name else None,
        threshold=_threshold(tensors, weights["b_enc"]) if name in ONE_THRESHOLD else weights.get("threshold"),
        r_mag=weights.get("r_mag"),
        b_mag=weights.get("b_mag"),
        facts=_facts(source, config, trainer, architecture, prefixes),
    )
    # The library's own loader gives such an autoencoder decoder rows of norm one.
    return stored.with_unit_decoder() if name == "AutoEncoder" else stored


def _threshold(tensors: Mapping[str, Any], like: Tensor) -> Tensor:
    one = checked({name: tensor for name, tensor in tensors.items() if name == "threshold"}, {"threshold": ()})
    return one["threshold"].to(like).clamp(min=0).expand_as(like)


def _prefixes(tensors: Mapping[str, Any], d_sae: int) -> tuple[int, ...]:
    sizes = tensors.get("group_sizes")
    if not isinstance(sizes, Tensor) or sizes.ndim != 1 or int(sizes.sum()) != d_sae or int(sizes.min()) < 1:
        raise ArtifactError(f"weights: group_sizes do not add up to the {d_sae} features of {CONFIG}")
    return tuple(sizes.cumsum(0).tolist())


def _facts(
    source: Source, config: Mapping[str, Any], trainer: Mapping[str, Any], architecture: str, prefixes: tuple[int, ...]
) -> SAEFacts:
    buffer = config.get("buffer")
    buffer = buffer if isinstance(buffer, dict) else {}
    context = buffer.get("ctx_len")
    hook = source.hook_or(_hook(trainer, buffer), reason=f"{CONFIG} has no submodule_name that tells the hook")
    data = {} if context is None else {"context_size": context}
    return SAEFacts(hook, architecture, prefixes, {"name": trainer.get("lm_name")}, data)


def _hook(trainer: Mapping[str, Any], buffer: Mapping[str, Any]) -> str | None:
    layer, name = trainer.get("layer"), trainer.get("submodule_name")
    # Whoever trains names the module, or leaves it unnamed wherever it is; the library's own demo and its released SAEs
    # use these names.
    if not isinstance(layer, int) or name not in (f"resid_post_layer_{layer}", f"resid_pre_layer_{layer}"):
        return None
    before = buffer.get("io") == "in" or str(name).startswith("resid_pre")
    return f"blocks.{layer}.hook_resid_{'pre' if before else 'post'}"
