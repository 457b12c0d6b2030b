"""What an intervention is judged by: a figure for each prompt, from the model's output at its last token.

Axes: b prompts, v vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity

from interp.errors import ConfigError
from interp.models import Model
from interp.prompts import Prompts


@dataclass(frozen=True, slots=True)
class Outcome:
    """A named figure of a model's output for each prompt; any function of (outputs (b, v), prompts) -> (b,) will do.

    It must be differentiable in the outputs for attribution, and must not mix rows. of_logits: it asks for logits, and
    means nothing of an encoder's hidden state.
    """

    name: str
    units: str
    function: Callable[[Float[Tensor, "b v"], Prompts], Float[Tensor, " b"]]
    of_logits: bool = False

    def __call__(self, outputs: Float[Tensor, "b v"], prompts: Prompts) -> Float[Tensor, " b"]:
        return self.function(outputs, prompts)

    def check(self, model: Model) -> None:
        """Raises: ConfigError if it asks for logits of a model that has none."""
        if self.of_logits and not model.causal:
            raise ConfigError(
                f"outcome: got {self.name} for {model.name}, an encoder, which has no logits; "
                "expected one of its hidden state, such as turned_from, or a causal model"
            )


def _logit_difference(outputs: Tensor, prompts: Prompts) -> Tensor:
    answers, foils = _answers(prompts), _foils(prompts)
    return _picked(outputs, answers) - _picked(outputs, foils)


def _cross_entropy(outputs: Tensor, prompts: Prompts) -> Tensor:
    return -_picked(outputs.float().log_softmax(1), _answers(prompts))


def _probability(outputs: Tensor, prompts: Prompts) -> Tensor:
    return _picked(outputs.float().softmax(1), _answers(prompts))


LOGIT_DIFFERENCE = Outcome("logit difference", "logits", _logit_difference, of_logits=True)
"""Logit of the answer minus that of the foil."""
CROSS_ENTROPY = Outcome("cross-entropy", "nats", _cross_entropy, of_logits=True)
"""Of the answer: falls where the answer becomes likelier."""
PROBABILITY = Outcome("probability", "", _probability, of_logits=True)
"""Of the answer."""
OUTCOMES = {
    "logit-difference": LOGIT_DIFFERENCE,
    "cross-entropy": CROSS_ENTROPY,
    "probability": PROBABILITY,
}
"""Those that need only the prompts, by their names on the command line."""


def kl_from(reference: Float[Tensor, "b v"]) -> Outcome:
    """KL divergence of the output from that of a reference pass over the same prompts, reference first."""
    logp = reference.detach().float().log_softmax(1)

    def function(outputs: Tensor, _: Prompts) -> Tensor:
        logq = outputs.float().log_softmax(1)
        held = logp.to(logq).repeat(outputs.shape[0] // logp.shape[0], 1)
        return (held.exp() * (held - logq)).sum(1)

    return Outcome("KL from the unedited model", "nats", function, of_logits=True)


def turned_from(reference: Float[Tensor, "b v"]) -> Outcome:
    """One minus the cosine with the output of a reference pass: what an encoder, which has no logits, is judged by."""

    def function(outputs: Tensor, _: Prompts) -> Tensor:
        held = reference.detach().to(outputs).repeat(outputs.shape[0] // reference.shape[0], 1)
        return 1 - cosine_similarity(outputs, held, dim=1)

    return Outcome("1 - cosine with the unedited output", "", function)


def _picked(outputs: Tensor, tokens: Tensor) -> Tensor:
    return outputs.gather(1, tokens.to(outputs.device)[:, None])[:, 0]


def _answers(prompts: Prompts) -> Tensor:
    if prompts.answers is None:
        raise ConfigError("got prompts without answers; this outcome needs one for each; give answers")
    return prompts.answers


def _foils(prompts: Prompts) -> Tensor:
    if prompts.foils is None:
        raise ConfigError("got prompts without foils; a logit difference needs one for each; give foils")
    return prompts.foils


def mean_over(outcome: Outcome, outputs: Float[Tensor, "b v"], prompts: Prompts) -> float:
    """The outcome's mean over prompts."""
    return float(outcome(outputs, prompts).mean(dtype=torch.float64))
