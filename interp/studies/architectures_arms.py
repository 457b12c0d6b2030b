"""Every arm of the study of architectures as an SAE: read, fitted or drawn, and brought to the wanted L0."""

from interp.errors import ArtifactError
from interp.storage import is_there
from interp.studies.architectures_matching import Matching, left_alone, match_l0
from interp.studies.architectures_scene import Scene
from interp.studies.architectures_settings import (
    APART,
    BASELINES,
    FROZEN,
    MATCHED,
    PERMUTED,
    RANDOM_MODEL,
    REFERENCE,
    UNTRAINED,
    StudySettings,
    rule_of,
)
from saes.architectures import create_sae
from saes.base import SAE
from saes.baselines import fit_baseline
from saes.initialise import initialise
from saes.io import load_sae, save_sae
from saes.null_arms import untrained_arms
from saes.sweep_folder import SweepFolder


class Arms:
    """The trained members of both sweeps, and what is made of them."""

    def __init__(self, settings: StudySettings, main: SweepFolder, random_model: SweepFolder) -> None:
        self.settings = settings
        self.folders = {"main": main, RANDOM_MODEL: random_model}
        self._members = {
            (RANDOM_MODEL if sweep == RANDOM_MODEL else FROZEN if one.config.freeze_decoder else architecture, seed): (
                folder,
                one.name,
            )
            for sweep, folder in self.folders.items()
            for one in folder.config().members()
            for architecture, seed in [(one.config.sae.architecture, one.config.seed)]
        }

    def failed(self) -> dict[str, str]:
        """Arms and seeds whose training came to no end, and why."""
        told = {}
        for (arm, seed), (folder, name) in self._members.items():
            if (message := folder.record().members[name].message) is not None:
                told[f"{arm}-{seed}"] = message
        return told

    def is_there(self, arm: str, seed: int) -> bool:
        """Whether an arm can be made: what it is made of was trained to its end."""
        source = (REFERENCE if arm in (PERMUTED, MATCHED) else arm, seed)
        if source not in self._members:
            return True
        folder, name = self._members[source]
        return folder.record().members[name].message is None

    def tokens_per_s(self, arm: str, seed: int) -> float | None:
        """Tokens per second of the step alone; None of what is not trained in steps."""
        if (arm, seed) not in self._members:
            return None
        folder, name = self._members[arm, seed]
        record = folder.record().members[name]
        return record.n_steps * self.settings.base.batch_size / record.seconds if record.seconds else None

    def make(self, arm: str, seed: int, scene: Scene) -> tuple[SAE, Matching]:
        """The SAE at the wanted L0, and what was done for it.

        Permuted and random directions are made of an SAE that is there already.
        """
        if arm in (PERMUTED, MATCHED):
            source, _ = self.make(REFERENCE, seed, scene)
            sae = untrained_arms(source, scene.calibration, seed=seed)[arm]
        else:
            sae = self._own(arm, seed, scene)
        sae = sae.to(scene.model.device)
        if rule_of(arm) == "threshold":
            return sae, match_l0(sae, scene.calibration, self.settings.target_l0)
        return sae, left_alone(sae, scene.calibration)

    def _own(self, arm: str, seed: int, scene: Scene) -> SAE:
        if arm == UNTRAINED:
            return self._untrained(seed, scene)
        if arm in BASELINES or arm in APART:
            return self._baseline(arm, seed, scene)
        folder, name = self._members[arm, seed]
        return load_sae(folder.run(name).sae)

    def _baseline(self, arm: str, seed: int, scene: Scene) -> SAE:
        path = self.settings.folder / "baselines" / f"{arm}-{seed}"
        if not is_there(path):
            size = {"k": self.settings.base.sae.k, "d_sae": self.settings.base.sae.d_sae, "seed": seed}
            fitted = fit_baseline(arm, scene.sample.cpu(), hooks=scene.hooks, **size)
            facts = {"model": scene.model.facts, "data": scene.train.facts, "seed": seed, "baseline": fitted.kind}
            path.parent.mkdir(parents=True, exist_ok=True)
            save_sae(path, fitted.sae, facts | {"training_tokens": scene.sample.shape[0], "fit": dict(fitted.facts)})
        return load_sae(path)

    def _untrained(self, seed: int, scene: Scene) -> SAE:
        config = self.settings.base.sae.model_copy(update={"architecture": REFERENCE})
        sae = create_sae(config, scene.calibration.shape[1], hooks_in=scene.hooks)
        initialise(sae, scene.calibration.cpu(), seed=seed, normalise=self.settings.base.rescale)
        return sae.folded().eval()


def check_model(scene: Scene, folder: SweepFolder) -> None:
    """Raises: ArtifactError if the model is not the one that the sweep was trained on."""
    if scene.model.content_hash != folder.record().model.get("content_hash"):
        raise ArtifactError(f"{folder.path}: model {scene.model.name} has changed since it was trained on; restore it")
