"""The optimisers of SAEs."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch

from interp.distributed import ALONE, Ranks
from saes.base import SAE
from saes.ops.acceleration import accelerated

THRESHOLD_LR_SCALE = 10.0
"""Learning rate of a JumpReLU's thresholds over that of everything else."""
WIDEST_ROW = 1 << 14
"""Widest decoder row that one program of the GPU's optimiser holds."""


def make_optimiser(
    sae: SAE, lr: float, kind: Literal["adam", "muon"] = "adam", *, ranks: Ranks = ALONE
) -> torch.optim.Optimizer:
    """Adam over the trainable parameters, in one fused pass; or Muon for the two weight matrices and Adam for the rest.

    Where several `ranks` have a part each, `sae` is this one's.

    Source: learning rate and betas of Bussmann et al. 2025 (arXiv 2503.17547).
    """
    trainable = [parameter for parameter in sae.parameters() if parameter.requires_grad]
    matrices = [p for p in trainable if p.ndim == 2] if kind == "muon" else []
    fast = [p for p in trainable if p is sae.threshold]
    groups: list[dict[str, Any]] = [{"params": [p for p in trainable if not _is_in(p, matrices + fast)]}]
    if fast:
        groups.append({"params": fast, "lr_scale": THRESHOLD_LR_SCALE})
    # Another optimiser than the one before may leave the rows to the SAE again.
    sae.rows_kept = False
    if kind == "muon":
        return MuonWithAdam(matrices, groups, lr=lr)
    # Kernels take one row at a time: wider ones do not fit.
    if accelerated(sae.W_dec) and sae.W_dec.shape[1] <= WIDEST_ROW:
        return _row_adam(sae, groups, lr, ranks)
    return _adam(groups, lr)


def _row_adam(sae: SAE, groups: list[dict[str, Any]], lr: float, ranks: Ranks) -> torch.optim.Optimizer:
    from saes.ops.triton_adam import RowAdam

    sae.rows_kept = sae.config.decoder_norm == "unit" and sae.W_dec.requires_grad
    parts = [sae.get_parameter(name) for name in sae.sparse_parameters] if ranks.n > 1 else []
    return RowAdam(groups, lr=lr, unit=[sae.W_dec] if sae.rows_kept else [], parts=parts, ranks=ranks)


def _adam(groups: list[dict[str, Any]], lr: float) -> torch.optim.Adam:
    return torch.optim.Adam(groups, lr=lr, betas=(0.9, 0.999), fused=True)


def _is_in(parameter: torch.nn.Parameter, held: list[torch.nn.Parameter]) -> bool:
    # Parameters compare entry by entry.
    return any(parameter is other for other in held)


class MuonWithAdam(torch.optim.Optimizer):
    """torch's Muon and torch's Adam as one optimiser, so that one checkpoint holds both.

    Muon's update of a matrix has the root mean square that Adam's has, so that one learning rate serves both.
    Source: Jordan et al. 2024; Liu et al. 2025, "Muon is scalable", equation 4.
    """

    def __init__(self, matrices: list[torch.nn.Parameter], others: list[dict[str, Any]], *, lr: float) -> None:
        super().__init__([{"params": matrices}, *({**group} for group in others)], {"lr": lr})
        self._muon = torch.optim.Muon(matrices, lr=lr, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
        self._adam = _adam(others, lr)
        self.param_groups = [*self._muon.param_groups, *self._adam.param_groups]
        self._share()

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        del closure
        self._muon.step()
        self._adam.step()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """As every optimiser does; the two inside go on with what was loaded."""
        super().load_state_dict(dict(state_dict))
        self._share()

    def _share(self) -> None:
        """One state and one list of groups: parameters differ, so that neither sees the other's."""
        self._muon.state = self._adam.state = self.state
        self._muon.param_groups, self._adam.param_groups = self.param_groups[:1], self.param_groups[1:]
