"""The arms of the step benchmark, and how each library is set up for them."""

from dataclasses import dataclass, field
from typing import Any

from step_task import Task

PENALISED = ("standard", "gated", "jumprelu")
STILL = 1e-6
"""Learning rate of penalised arms. What a step costs depends on L0, which thus stays where it starts everywhere."""
WORKING_LR = 3e-4
"""Learning rate at which loss curves are compared."""

ARMS: dict[str, Task] = {
    "topk": Task("topk"),
    "batch_topk": Task("batch_topk"),
    "matryoshka": Task("matryoshka"),
    "standard": Task("standard", lr=STILL, penalty=1.0),
    # Early in training many more features are active.
    "standard_dense": Task("standard", lr=STILL, penalty=1.0, l0=300.0),
    "gated": Task("gated", lr=STILL, penalty=1.0),
    "jumprelu": Task("jumprelu", lr=STILL, penalty=0.8),
    "transcoder": Task("transcoder"),
    "topk_dead": Task("topk", dead_share=0.1),
    "matryoshka_dead": Task("matryoshka", dead_share=0.1),
}

_BARE: dict[str, Any] = {"rescale_acts_by_decoder_norm": False}
# Without rescaling by decoder norms SAELens saves several passes over the weights.
_BATCH_TOPK = [_BARE, {**_BARE, "autocast": True}, {**_BARE, "compile": True}]
_PLAIN: list[dict[str, Any]] = [{}, {"autocast": True}, {"compile": True}]


@dataclass(frozen=True, slots=True)
class Peers:
    """Settings of each peer of which the fastest is measured (none: it has no trainer of the architecture).

    `exact` are the settings with which SAELens and we compute the same function.
    """

    saelens: list[dict[str, Any]] = field(default_factory=list)
    dictionary_learning: list[dict[str, Any]] = field(default_factory=list)
    exact: dict[str, Any] = field(default_factory=dict)

    def settings(self, library: str) -> list[dict[str, Any]]:
        """The settings to try of a library."""
        found: list[dict[str, Any]] = getattr(self, library)
        return found


_RESCALED = {"rescale_acts_by_decoder_norm": True}
PEERS: dict[str, Peers] = {
    "topk": Peers([_BARE, {**_BARE, "use_sparse_activations": True}, *_BATCH_TOPK[1:]], [{}], _RESCALED),
    "batch_topk": Peers(_BATCH_TOPK, [{}], _RESCALED),
    "matryoshka": Peers(_BATCH_TOPK, [{}], _RESCALED),
    # Free decoder rows weighed by their norms, or rows of norm one.
    "standard": Peers(_PLAIN, [{"trainer": "free"}, {"trainer": "unit"}]),
    "gated": Peers(_PLAIN, [{}]),
    "jumprelu": Peers(_PLAIN, [{}]),
    # SAELens has transcoders for inference only, dictionary_learning has none.
    "transcoder": Peers(),
}
