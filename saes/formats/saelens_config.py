"""cfg.json of any SAELens as version 6 would write it. What each version meant is told by SAELens 6's own converter."""

from collections.abc import Mapping
from typing import Any

from interp.errors import ArtifactError
from saes.formats.tensors import mapping

RENAMED = {"hook_point": "hook_name", "hook_point_head_index": "hook_head_index", "activation_fn_str": "activation_fn"}
"""Before version 6, and before that."""
METADATA = (
    "model_name", "hook_name", "hook_name_out", "hook_head_index", "model_from_pretrained_kwargs", "prepend_bos",
    "exclude_special_tokens", "context_size", "dataset_path", "sae_lens_version",
)  # fmt: skip


def as_version_6(values: Any) -> dict[str, Any]:
    """The config with `metadata`, whatever version wrote it.

    Raises: ArtifactError if it is no mapping or names an activation function that no SAE here has.
    """
    if not isinstance(values, dict):
        raise ArtifactError(f"cfg.json: got a {type(values).__name__}; expected the mapping that SAELens writes")
    metadata = values.get("metadata")
    if isinstance(metadata, dict) and _major(metadata.get("sae_lens_version")) >= 6:
        return {**values, "metadata": metadata}
    return _from_older({RENAMED.get(str(name), str(name)): value for name, value in values.items()})


def _from_older(old: Mapping[str, Any]) -> dict[str, Any]:
    new = {"apply_b_dec_to_input": True, "architecture": "standard", "prepend_bos": True, **old}
    function, settings = new.get("activation_fn", "relu"), mapping(new, "activation_fn_kwargs", where="cfg.json")
    if function == "topk":
        new |= {"architecture": "topk", "k": settings.get("k")}
    elif function != "relu":
        raise ArtifactError(f"cfg.json: got activation function {function!r}; expected relu or topk")
    normalise = new.get("normalize_activations")
    if normalise is None or isinstance(normalise, bool):
        # The switch came before there were several ways.
        new["normalize_activations"] = "expected_average_only_in" if normalise else "none"
    hook = new.get("hook_name")
    if isinstance(hook, str) and "hook_z" in hook:
        new.setdefault("reshape_activations", "hook_z")
    return {**new, "metadata": {name: new[name] for name in METADATA if name in new}}


def _major(version: Any) -> int:
    first = str(version or "0").split(".")[0]
    return int(first) if first.isdigit() else 0
