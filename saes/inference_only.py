"""What SAEs that are read and never trained share."""

import copy
from abc import ABC

from interp.code import ActivationBatch
from interp.errors import ConfigError
from interp.loop import StepReport
from saes.base import SAE
from saes.ops.encode import Preactivations
from saes.ops.select import Selection


class InferenceOnlySAE(SAE, ABC):
    """An SAE without a training rule of its own. Its weights are what its file says, for raw activations."""

    def select(self, pre: Preactivations) -> Selection:
        return self.select_at_inference(pre)

    def report(self, batch: ActivationBatch, *, provisional: bool = False) -> StepReport:
        """Raises: ConfigError always."""
        del provisional
        raise ConfigError(
            f"got {len(batch)} tokens to train a {type(self).__name__} on, which is for inference only; "
            "expected one of the architectures of SAEConfig"
        )

    def folded(self) -> SAE:
        """A copy: there is nothing to fold."""
        return copy.deepcopy(self)
