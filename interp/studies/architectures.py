"""Every architecture on the same activations, compared at the same number of active features, beside what it must beat.

All SAEs are trained in one pass over one stream of activations, several seeds each: the architectures, and BatchTopK
with its decoder frozen as drawn. BatchTopK on the model with shuffled weights has a pass of its own. Made of these:
BatchTopK with permuted decoder rows, and random directions that fire as often and as strongly; an SAE as initialised;
and baselines that no network learned (PCA, ICA, random directions, neurons, each with the k largest contributions of a
token; k-means, whose L0 is 1, is told apart).

Matched L0: an arm with thresholds (JumpReLU, BatchTopK, Matryoshka, and all null arms) gets one number added to all of
them, such that L0 on a sample of training text is k; that text is not scored. TopK and the baselines keep k of each
token. Standard and gated SAEs have no threshold of their own, and one put on them afterwards could only take features
away: they are steered to k while training and left as they are; an L0 further than 5% from k is pointed out.

All are scored on held-out documents: explained variance, L0, what replacing the activations costs the model (ΔCE and
KL; not of an encoder, which predicts no next token), dead and dense features, and how well 1, 2 and 5 features, chosen
by the difference of their means, tell labelled words apart, with the words held out as well.
"""

from collections.abc import Iterator
from typing import Any

from interp.recording import ProgressLines
from interp.storage import is_there, make_folder, read_json, write_json
from interp.studies.architectures_arms import Arms, check_model
from interp.studies.architectures_matching import Matching
from interp.studies.architectures_results import ArchitecturesStudy, ArmRun, References
from interp.studies.architectures_scene import Scene
from interp.studies.architectures_settings import RANDOM_MODEL, StudySettings
from saes.evaluation import Evaluation
from saes.sweep import sweep

FILE_NAME = "architectures.json"
NO_CE = "not measured: an encoder predicts no next token"


def run_architectures(settings: StudySettings) -> ArchitecturesStudy:
    """Train what is not trained yet, score what is not scored yet, and write architectures.json into the folder.

    Raises: ConfigError if the folder was begun with other settings; any InterpError of training and scoring.
    """
    settings.claim_folder()
    arms = Arms(settings, sweep(settings.main_sweep(), resume=True), sweep(settings.random_model_sweep(), resume=True))
    scenes = {"model": Scene(settings), RANDOM_MODEL: Scene(settings, randomise=settings.base.seed)}
    check_model(scenes["model"], arms.folders["main"])
    runs = []
    with ProgressLines("score", len(settings.runs)) as progress:
        for index, run in enumerate(_iter_runs(settings, arms, scenes), 1):
            runs.append(run)
            progress.show(index, f"{run.arm} seed {run.seed}")
    study = ArchitecturesStudy(
        about=_about(settings, arms, scenes["model"]),
        target_l0=settings.target_l0,
        runs=tuple(runs),
        references=_references(settings, scenes),
        failed=arms.failed(),
    )
    write_json(settings.folder / FILE_NAME, study.to_json())
    return study


def _iter_runs(settings: StudySettings, arms: Arms, scenes: dict[str, Scene]) -> Iterator[ArmRun]:
    folder = make_folder(settings.folder / "scores")
    for arm, seed in settings.runs:
        path = folder / f"{arm}-{seed}.json"
        if is_there(path):
            yield ArmRun.from_json(read_json(path))
        elif arms.is_there(arm, seed):
            run = _scored(arm, seed, arms, scenes[RANDOM_MODEL if arm == RANDOM_MODEL else "model"])
            write_json(path, run.to_json())
            yield run


def _scored(arm: str, seed: int, arms: Arms, scene: Scene) -> ArmRun:
    sae, matching = arms.make(arm, seed, scene)
    result, probing = scene.evaluate(sae), scene.probe(sae)
    return ArmRun(
        arm=arm,
        seed=seed,
        tokens_per_s=arms.tokens_per_s(arm, seed),
        probing=probing,
        **_figures(result),
        **_matched(matching),
    )


def _figures(result: Evaluation) -> dict[str, Any]:
    ce = result.ce
    return {
        "n_tokens": result.n_tokens,
        "explained_variance": result.explained_variance,
        "explained_variance_interval": result.explained_variance_interval,
        "l0": result.l0,
        "ce_delta": None if ce is None else ce.delta,
        "ce_delta_interval": None if ce is None else ce.delta_interval,
        "kl": None if ce is None else ce.kl,
        "dead_share": result.dead_share,
        "dense_share": result.dense_share,
    }


def _matched(matching: Matching) -> dict[str, Any]:
    return {"shift": matching.shift, "l0_before": matching.l0_before, "calibration_l0": matching.l0_after}


def _references(settings: StudySettings, scenes: dict[str, Scene]) -> References:
    path = settings.folder / "scores" / "references.json"
    if is_there(path):
        return References.from_json(read_json(path))
    found = References(scenes["model"].reference_probes(), scenes[RANDOM_MODEL].reference_probes())
    write_json(path, found.to_json())
    return found


def _about(settings: StudySettings, arms: Arms, scene: Scene) -> dict[str, Any]:
    record = arms.folders["main"].record()
    return {
        "settings": settings.to_json(),
        "model": scene.model.facts,
        "hook": settings.base.hook,
        "data": dict(record.data),
        "ce": None if scene.model.causal else NO_CE,
        "command": record.command,
        "versions": dict(record.versions),
        "commit": record.commit,
        "hardware": dict(record.hardware),
        "cost": record.cost(),
    }
