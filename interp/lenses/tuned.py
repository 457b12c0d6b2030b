"""The tuned lens: an affine correction of each layer's residual stream before it is read as the last one.

Axes: b tokens, l layers (hooks), d d_model, v vocabulary.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp.code import ActivationBatch
from interp.errors import ConfigError
from interp.lenses.logit import divergence, last_hook, lens_hooks, logit_lens
from interp.loop import StepReport
from interp.models import Model


class TunedLens(nn.Module):
    """h + A h + b at each hook, then final norm and unembedding; zero at first, where it is the logit lens.

    The last layer has no correction: the lens there is the model. Shapes: A (l, d, d), b (l, d).
    Source: Belrose et al. 2023, "Eliciting latent predictions from transformers with the tuned lens", section 3.
    """

    def __init__(self, model: Model, hooks: Sequence[str] = ()) -> None:
        """Raises: ModelError for an encoder; ConfigError for a hook outside the residual stream, or the last alone."""
        super().__init__()
        self.model, self.teacher_hook = model, last_hook(model)
        self.hooks = tuple(name for name in lens_hooks(model, hooks) if name != self.teacher_hook)
        if not self.hooks:
            raise ConfigError(f"hooks: got {self.teacher_hook} alone, where every lens is the model; give earlier ones")
        n, d = len(self.hooks), model.d_model
        self.A = nn.Parameter(torch.zeros(n, d, d, device=model.device))
        self.b = nn.Parameter(torch.zeros(n, d, device=model.device))

    def logits(self, hook: str, hidden: Float[Tensor, "b d"]) -> Float[Tensor, "b v"]:
        """Next-token logits of the residual stream at a hook; at the last one, the model's own."""
        if hook == self.teacher_hook:
            return logit_lens(self.model, hidden)
        index = self.hooks.index(hook)
        x = hidden.float()
        return logit_lens(self.model, x + x @ self.A[index].T + self.b[index])

    def losses(self, batch: ActivationBatch) -> StepReport:
        """KL(model‖lens), summed over layers. Pure.

        Units: nats per token.
        """
        with torch.no_grad():
            teacher = logit_lens(self.model, batch.acts[self.teacher_hook])
        found = {hook: divergence(teacher, self.logits(hook, batch.acts[hook])).mean() for hook in self.hooks}
        terms = {f"kl.{hook}": kl.detach() for hook, kl in found.items()}
        return StepReport(torch.stack(list(found.values())).sum(), terms, len(batch))

    def project_gradients(self) -> None:
        """Nothing to project."""

    def after_update(self, report: StepReport, optimiser: torch.optim.Optimizer) -> None:
        """Nothing to restore."""
