"""Future Lens by linear maps: straight to the vocabulary, or to the last layer's state N tokens ahead.

Axes: b examples, l layers (hooks), n distances, d d_model, v vocabulary.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from interp.lenses.continuations import Continuations
from interp.lenses.logit import logit_lens, normed
from interp.models import Model

RIDGE = 1e-3
"""Share of the mean squared deviation of the inputs that is added to their covariance: less data than widths is met."""


def least_squares(
    x: Float[Tensor, "b d"], y: Float[Tensor, "b m"], *, ridge: float = RIDGE
) -> tuple[Float[Tensor, "m d"], Float[Tensor, " m"]]:
    """Weight and bias of the affine map with the least squared error, by normal equations in float64."""
    x, y = x.double(), y.double()
    mean_x, mean_y = x.mean(0), y.mean(0)
    centred = x - mean_x
    gram = centred.T @ centred
    # A layer whose states are all alike has nothing to map: its output is the mean.
    strength = ridge * float(gram.diagonal().mean()) or 1.0
    gram += strength * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    weight = torch.linalg.solve(gram, centred.T @ (y - mean_y)).T
    return weight, mean_y - weight @ mean_x


class LinearVocab(nn.Module):
    """h → logits, one affine map for each layer and distance."""

    def __init__(self, model: Model, n_layers: int, n_distances: int) -> None:
        super().__init__()
        shape = (n_layers, n_distances, model.d_vocab)
        self.weight = nn.Parameter(torch.zeros(*shape, model.d_model, device=model.device))
        self.bias = nn.Parameter(torch.zeros(*shape, device=model.device))
        self._model = model

    @torch.no_grad()
    def start(self, examples: Continuations) -> None:
        """Least squares onto the model's own logits (before any soft cap), which are linear in the normed state."""
        head = self._model.unembedding
        assert head is not None
        unembedding: Tensor = head.weight.float()  # type: ignore[assignment]
        for layer, n, rows in _places(examples):
            y = normed(self._model, examples.final[rows, n])
            weight, bias = least_squares(examples.hidden[rows, layer], y)
            self.weight[layer, n] = unembedding @ weight.float()
            self.bias[layer, n] = unembedding @ bias.float()
            if getattr(head, "bias", None) is not None:
                self.bias[layer, n] += head.bias  # type: ignore[arg-type]

    def logits(self, layer: int, n: int, hidden: Float[Tensor, "b d"]) -> Float[Tensor, "b v"]:
        """Logits of the token n + 1 places ahead."""
        return hidden.float() @ self.weight[layer, n].T + self.bias[layer, n]


class LinearHidden(nn.Module):
    """h → the last layer's residual stream n tokens later, then final norm and unembedding."""

    def __init__(self, model: Model, n_layers: int, n_distances: int) -> None:
        super().__init__()
        shape = (n_layers, n_distances, model.d_model)
        self.weight = nn.Parameter(torch.zeros(*shape, model.d_model, device=model.device))
        self.bias = nn.Parameter(torch.zeros(*shape, device=model.device))
        self._model = model

    @torch.no_grad()
    def start(self, examples: Continuations) -> None:
        """Least squares onto the last layer's states."""
        for layer, n, rows in _places(examples):
            weight, bias = least_squares(examples.hidden[rows, layer], examples.final[rows, n])
            self.weight[layer, n] = weight.float()
            self.bias[layer, n] = bias.float()

    def logits(self, layer: int, n: int, hidden: Float[Tensor, "b d"]) -> Float[Tensor, "b v"]:
        """Logits of the token n + 1 places ahead."""
        return logit_lens(self._model, hidden.float() @ self.weight[layer, n].T + self.bias[layer, n])


def _places(examples: Continuations) -> list[tuple[int, int, Bool[Tensor, " b"]]]:
    n_layers, n_distances = len(examples.hooks), examples.n_distances
    return [(layer, n, examples.usable[:, n]) for layer in range(n_layers) for n in range(n_distances)]
