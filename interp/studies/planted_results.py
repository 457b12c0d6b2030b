"""What the planted-rule study found in the organism and in its twin."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from interp.effects import EffectGrid
from interp.steering_results import DoseResponse
from interp.storage import write_json
from probes.intervals import Score

SCHEMA_VERSION = 1
PLANTED, TWIN = "planted", "twin"


@dataclass(frozen=True, slots=True)
class FeatureEvidence:
    """The feature that tells triggered cues best on selection prompts, judged on held-out words and stories.

    Units: auc of its activation at the cue; ablated is the change of the logit difference on triggered prompts without
    it, the error kept; ablated_controls the same for as many random features that fire as often and write as much.
    """

    feature: int
    auc: Score
    ablated: Score
    ablated_controls: Float[ndarray, " c"]
    dose: DoseResponse

    @property
    def p_ablated(self) -> float:
        """Share of the random features whose ablation does at least as much, the feature itself counted in."""
        more = np.abs(self.ablated_controls) >= abs(self.ablated.value)
        return float((1 + more.sum()) / (1 + self.ablated_controls.shape[0]))


@dataclass(frozen=True, slots=True)
class PlantedArm:
    """One model: does it follow the rule, and what do patching, probes and an SAE say.

    gap: logit difference with a trigger less that with another word. patching: change of the corrupt prompts' logit
    difference, in logits, by component and place. probe: accuracy at the cue of each layer on words that the probe did
    not see.
    """

    name: str
    payload_triggered: Score
    payload_untriggered: Score
    gap: Score
    patching: EffectGrid
    probe: tuple[Score, ...]
    feature: FeatureEvidence

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        found = self.feature
        return {
            "payload_triggered": self.payload_triggered.to_json(),
            "payload_untriggered": self.payload_untriggered.to_json(),
            "gap": self.gap.to_json(),
            "patching": self.patching.to_json(),
            "probe": [score.to_json() for score in self.probe],
            "feature": {
                "feature": found.feature,
                "auc": found.auc.to_json(),
                "ablated": found.ablated.to_json(),
                "ablated_controls": found.ablated_controls.tolist(),
                "p_ablated": found.p_ablated,
                "dose": found.dose.to_json(),
            },
        }


@dataclass(frozen=True, slots=True)
class PlantedStudy:
    """The organism beside its twin, and the truth: which block's attention was trained."""

    config: Mapping[str, Any]
    layer: int
    n_pairs: int
    arms: Mapping[str, PlantedArm]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "schema_version": SCHEMA_VERSION,
            "study": "planted-rule",
            "config": dict(self.config),
            "layer": self.layer,
            "n_pairs": self.n_pairs,
            "arms": {name: arm.to_json() for name, arm in self.arms.items()},
        }

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all.

        Raises: StorageError.
        """
        write_json(path, self.to_json())
