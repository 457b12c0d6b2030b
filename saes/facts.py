"""What an SAE was trained on, and whether it is looked at on the same."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from interp.errors import ArtifactError
from interp.models import Model
from saes.token_sample import TokenSource


@dataclass(frozen=True, slots=True)
class SAEFacts:
    """Where a saved SAE comes from; `model` and `data` are what its run's manifest records of them.

    Entries that are absent (an SAE from elsewhere) are not enforced. `module` is the part of a block that an SAE from
    elsewhere names as the one whose output it was trained on.
    """

    hook: str
    architecture: str
    prefixes: tuple[int, ...]
    model: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    training_tokens: int | None = None
    frozen_decoder: bool = False
    module: str | None = None

    @property
    def model_hash(self) -> str | None:
        found: str | None = self.model.get("content_hash")
        return found

    @property
    def mask_policy(self) -> Mapping[str, Any] | None:
        found: Mapping[str, Any] | None = self.data.get("mask_policy")
        return found


def check_same_origin(facts: SAEFacts, model: Model, source: TokenSource) -> None:
    """Raises: ArtifactError if model, masks, rows or split differ from those the SAE was trained with."""
    check_same_model(facts, model)
    difference = data_difference(facts.data, source.facts)
    if difference is not None:
        name, was, is_now = difference
        raise ArtifactError(
            f"got {name} {is_now}; the SAE was trained with {was}; "
            "set the data the same way, or allow the mismatch explicitly"
        )


def check_same_model(facts: SAEFacts, model: Model) -> None:
    """Raises: ArtifactError if the model's content differs from that of the one the SAE was trained on."""
    if facts.model_hash not in (None, model.content_hash):
        raise ArtifactError(
            f"got model {model.name} ({model.content_hash[:12]}…); the SAE was trained on "
            f"{facts.model.get('name')} ({str(facts.model_hash)[:12]}…); "
            "give that model, or allow the mismatch explicitly"
        )


def data_difference(then: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """The first fact about rows, masks and split that differs, as (name, then, now); unknown ones do not count."""
    for name in ("mask_policy", "prepend_bos", "context_size", "rows"):
        if then.get(name) is not None and then[name] != now.get(name):
            return name, then[name], now.get(name)
    # Plain text has none, and may be looked at with any SAE.
    wrote, writes = then.get("chat_template"), now.get("chat_template")
    if wrote and writes and wrote != writes:
        return "chat_template", wrote, writes
    was, is_now = ((facts.get("split") or {}).get("heldout_share") for facts in (then, now))
    return None if was is None or was == is_now else ("heldout_share", was, is_now)
