"""A language model with codebooks inside as something that the training loop can fit.

Axes: b rows, t position, n tokens, g groups, k active codes, v vocabulary.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from interp.codebooks.batches import NO_TARGET, LanguageBatch
from interp.codebooks.dead_codes import replace_dead
from interp.codebooks.insertion import Codebooks, Insertion
from interp.codebooks.quantise import reconstruction_loss
from interp.loop import StepReport
from interp.models import Model
from interp.pretraining.optimiser import MuonAdam


@dataclass(frozen=True, slots=True)
class Chosen:
    """What stood at one hook in a step. Shapes: ids (n, g, k); normed (n, g, e)."""

    ids: Int[Tensor, "n g k"]
    normed: Float[Tensor, "n g e"]


class CodebookTask(nn.Module):
    """Next-token loss plus the codes' distance from what they stand for; the whole model learns.

    The model stays in evaluation mode: dropout would make the choice of codes noisy. Close it to take the codebooks
    out of the model.
    """

    n_updates: Tensor

    def __init__(
        self, model: Model, codebooks: Codebooks, *, reconstruction: float = 1.0, replace_dead_every: int = 0
    ) -> None:
        super().__init__()
        self.hf, self.codebooks = model.hf, codebooks
        self._blocks = model.paths.blocks
        self._reconstruction, self._replace_every = reconstruction, replace_dead_every
        self.hf.requires_grad_(True)
        self.register_buffer("n_updates", torch.zeros((), dtype=torch.int64))
        self._insertion = Insertion(model, codebooks)

    def optimiser(self, lr: float, kind: Literal["adamw", "muon"] = "adamw") -> torch.optim.Optimizer:
        """An optimiser without decay over every parameter of model and codebooks."""
        if kind == "adamw":
            return torch.optim.AdamW(self.parameters(), lr=lr, weight_decay=0.0, fused=True)
        blocks: Any = self.hf.get_submodule(self._blocks)
        matrices = [p for p in blocks.parameters() if p.ndim == 2]
        taken = {id(p) for p in matrices}
        others = [p for p in self.parameters() if id(p) not in taken]
        return MuonAdam(matrices, others, lr=lr, adam_lr_scale=0.3, weight_decay=0.0)

    def logits(self, batch: LanguageBatch) -> Float[Tensor, "b t v"]:
        """Next-token logits with the codebooks at work."""
        positions = {} if batch.position_ids is None else {"position_ids": batch.position_ids}
        forward: Any = self.hf
        logits: Tensor = forward(batch.token_ids, use_cache=False, **positions).logits
        return logits.float()

    def losses(self, batch: LanguageBatch) -> StepReport:
        """Cross-entropy of the next token and, weighed, the codebooks' own loss, summed over hooks.

        Units: nats per predicted token.
        """
        logits, real = self.logits(batch).flatten(0, 1), batch.targets != NO_TARGET
        targets = batch.targets.flatten()
        loss = F.cross_entropy(logits, targets, ignore_index=NO_TARGET)
        with torch.no_grad():
            accuracy = ((logits.argmax(1) == targets) & real.flatten()).sum() / real.sum()
        terms, total, seen = {"cross_entropy": loss.detach(), "accuracy": accuracy}, loss, self._insertion.take()
        if seen:
            distance = torch.stack([reconstruction_loss(found, real) for found in seen.values()]).sum()
            total = loss + self._reconstruction * distance
            terms["reconstruction"] = distance.detach()
        chosen = {hook: Chosen(found.ids[real], found.normed[real]) for hook, found in seen.items()}
        return StepReport(total, terms, batch.n_tokens, batch=chosen)

    def project_gradients(self) -> None:
        """Nothing to project."""

    @torch.no_grad()
    def after_update(self, report: StepReport, optimiser: torch.optim.Optimizer) -> None:
        """Count which codes were active; now and then put dead ones at activations of this batch."""
        self.n_updates += 1
        due = self._replace_every > 0 and int(self.n_updates) % self._replace_every == 0
        for hook, chosen in report.batch.items():
            quantiser = self.codebooks[hook]
            quantiser.count(chosen.ids)
            if due:
                replace_dead(quantiser, chosen.normed, optimiser)

    def state_dict(self, *arguments: Any, **more: Any) -> dict[str, Tensor]:  # type: ignore[override]
        """Every tensor once: tied ones would be refused by safetensors."""
        whole: dict[str, Tensor] = super().state_dict(*arguments, **more)
        first: dict[tuple[int, tuple[int, ...]], str] = {}
        for name, tensor in whole.items():
            first.setdefault((tensor.data_ptr(), tuple(tensor.shape)), name)
        return {name: whole[name] for name in first.values()}

    def load_state_dict(self, state_dict: Mapping[str, Any], *_: Any, **__: Any) -> Any:
        """The inverse; tied tensors come with their twins."""
        return super().load_state_dict(state_dict, strict=False)

    def close(self) -> None:
        """Take the codebooks out of the model."""
        self._insertion.remove()
