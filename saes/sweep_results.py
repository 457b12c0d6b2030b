"""What came out of a sweep: every member measured on the same held-out tokens, seeds compared, cost."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from interp.datasets import open_stream
from interp.errors import ArtifactError, InterpError
from interp.models import Model
from interp.runs import RunFolder
from interp.storage import read_json, write_json
from saes.evaluate_run import evaluate_parts
from saes.evaluation import Evaluation
from saes.io import load_facts, load_sae
from saes.member_names import matters
from saes.origin import load_models
from saes.run_parts import RunParts
from saes.sweep_config import Member, SweepConfig
from saes.sweep_folder import MemberRecord, SweepFolder, SweepRecord
from saes.sweep_pairs import SeedPair, compare_seeds, seed_groups
from saes.token_sample import iter_sample

SCHEMA_VERSION = 1
CURVE_POINTS = 120
SPARSITY = ("sae.k", "sae.l1_coefficient", "sae.l0_target", "sae.l0_control")
"""Settings along which a frontier runs; members that differ in any other, seeds apart, are of another line."""


@dataclass(frozen=True, slots=True)
class MemberScore:
    """One member: its settings, what was measured, how it trained. None is what was not measured, `note` says why.

    line and group name the frontier's line and the members that differ in their seed alone. curve has training tokens
    and explained variance.
    """

    name: str
    status: str
    note: str | None
    architecture: str
    k: int | None
    d_sae: int
    lr: float
    seed: int
    hook: str
    line: str
    group: str
    explained_variance: float | None
    l0: float | None
    ce_delta: float | None
    dead_share: float | None
    tokens_per_s: float | None
    curve: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class SweepResults:
    """sweep_results.json. cost is of SweepRecord.cost; provenance what its record and config say of origin."""

    members: tuple[MemberScore, ...]
    pairs: tuple[SeedPair, ...]
    cost: Mapping[str, float | int | None]
    n_tokens: int
    seed: int
    provenance: Mapping[str, Any]
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Any) -> "SweepResults":
        """Raises: ArtifactError naming the first entry that is missing or of the wrong type."""
        if not isinstance(values, dict) or values.get("schema_version") != SCHEMA_VERSION:
            raise ArtifactError(f"not results of version {SCHEMA_VERSION}; measure with `interp sweep --report`")
        try:
            return TypeAdapter(cls).validate_python(values)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ArtifactError(
                f"sweep_results.json: {where}: {first['msg'].lower()}; measure with `interp sweep --report`"
            ) from None


def measure_sweep(folder: SweepFolder, *, n_tokens: int, seed: int = 0) -> SweepResults:
    """Evaluate every finished member, the model loaded once, compare seeds, and write sweep_results.json.

    An evaluation that is there already, of the same tokens, is taken as it is.

    Raises: ArtifactError if the sweep is not finished or its model has changed; DataError without held-out text.
    """
    config, record = folder.config(), folder.record()
    if record.status != "finished":
        raise ArtifactError(f"{folder.path}: training was not finished; go on with `interp sweep CONFIG --resume`")
    base = config.base
    model = load_models(base)
    if model.content_hash != record.model.get("content_hash"):
        raise ArtifactError(f"{folder.path}: model {model.name} has changed since the sweep was trained; restore it")
    members = config.members()
    stream = open_stream(base.dataset, model, base.data, split="heldout")
    n_kept = sum(batch.n_kept for batch in iter_sample(stream, n_tokens, seed=seed))
    parts = _opened(folder, members, model)
    evaluations = {name: _evaluated(one, n_tokens, n_kept, seed) for name, one in parts.items()}
    groups = seed_groups({member.name: member.config for member in members})
    trained = {group: [name for name in names if name in parts] for group, names in groups.items()}
    pairs = compare_seeds(parts, trained, n_tokens=n_tokens, seed=seed)
    scores = _scores(folder, config, record, evaluations, groups)
    result = SweepResults(tuple(scores), tuple(pairs), record.cost(), n_kept, seed, _provenance(config, record))
    write_json(folder.results_path, result.to_json())
    return result


def _opened(folder: SweepFolder, members: Sequence[Member], model: Model) -> dict[str, RunParts]:
    """Every member that has an SAE, all with the one model."""
    found = {}
    for member in members:
        run = folder.run(member.name)
        if run.sae.is_dir():
            sae = load_sae(run.sae, device=model.device)
            found[member.name] = RunParts(run, member.config, model, sae, load_facts(run.sae))
    return found


def _evaluated(parts: RunParts, n_tokens: int, n_kept: int, seed: int) -> Evaluation | str:
    """The member's evaluation, or why there is none."""
    path = parts.run.evaluation_path
    if path.exists():
        before = Evaluation.from_json(read_json(path))
        if (before.n_tokens, before.seed, before.data.get("split")) == (n_kept, seed, _split(parts)):
            return before
    try:
        result = evaluate_parts(parts, n_tokens=n_tokens, seed=seed)
    except InterpError as error:
        return str(error)
    # How much held-out text the training text repeats was counted when training began, once for all.
    known = parts.run.manifest().data.get("overlap_with_training")
    result = replace(result, data={**result.data, **({} if known is None else {"overlap_with_training": known})})
    write_json(path, result.to_json())
    return result


def _split(parts: RunParts) -> Any:
    return parts.stream("heldout").facts.get("split")


def _scores(
    folder: SweepFolder,
    config: SweepConfig,
    record: SweepRecord,
    evaluations: Mapping[str, Evaluation | str],
    groups: Mapping[str, Sequence[str]],
) -> list[MemberScore]:
    group_of = {name: group for group, names in groups.items() for name in names}
    members = config.members()
    varied = {key for member in members for key in member.settings if _varies(key, members)}
    return [
        _score(
            member,
            record.members[member.name],
            evaluations.get(member.name),
            line=_line(member, varied),
            group=group_of[member.name],
            n_tokens=record.members[member.name].n_steps * config.base.batch_size,
            curve=_curve(folder.run(member.name)),
        )
        for member in members
    ]


def _varies(key: str, members: Sequence[Member]) -> bool:
    return len({json.dumps(member.settings[key]) for member in members}) > 1


def _score(
    member: Member,
    record: MemberRecord,
    evaluation: Evaluation | str | None,
    *,
    line: str,
    group: str,
    n_tokens: int,
    curve: tuple[tuple[float, float], ...],
) -> MemberScore:
    config = member.config
    measured = evaluation if isinstance(evaluation, Evaluation) else None
    return MemberScore(
        name=member.name,
        status=record.status,
        note=record.message if record.message is not None else evaluation if isinstance(evaluation, str) else None,
        architecture=config.sae.architecture,
        k=config.sae.k if config.sae.l0_controlled or not config.sae.penalised else None,
        d_sae=config.sae.d_sae,
        lr=config.schedule.lr,
        seed=config.seed,
        hook=" + ".join(config.hooks_in) + (f" -> {config.hook_out}" if config.hook_out else ""),
        line=line,
        group=group,
        explained_variance=measured.explained_variance if measured else None,
        l0=measured.l0 if measured else None,
        ce_delta=measured.ce.delta if measured and measured.ce else None,
        dead_share=measured.dead_share if measured else None,
        tokens_per_s=n_tokens / record.seconds if record.seconds else None,
        curve=curve,
    )


def _line(member: Member, varied: set[str]) -> str:
    """Name of the frontier's line: architecture, then what else sets it apart, sparsity and seed left out."""
    sae = member.config.sae
    words = [sae.architecture.replace("_", " "), f"{sae.d_sae:,}"]
    for key in sorted(varied - {"seed", "sae.architecture", "sae.d_sae", "hook", *SPARSITY}):
        if matters(key, member.settings):
            words.append(f"{key.split('.')[-1].replace('_', ' ')} {member.settings[key]}")
    return " ".join(words)


def _curve(run: RunFolder) -> tuple[tuple[float, float], ...]:
    """Explained variance over training tokens, thinned."""
    if not run.metrics_path.exists():
        return ()
    rows = [json.loads(line) for line in run.metrics_path.read_text().splitlines() if line.endswith("}")]
    points = [(float(row["n_tokens"]), float(row["explained_variance"])) for row in rows if "explained_variance" in row]
    every = -(-len(points) // CURVE_POINTS) or 1
    # Counted from the end: the last point is always in.
    return tuple(points[::-1][::every][::-1])


def _provenance(config: SweepConfig, record: SweepRecord) -> dict[str, Any]:
    return {
        "command": record.command,
        "created_utc": record.created_utc,
        "model": dict(record.model),
        "data": dict(record.data),
        "versions": dict(record.versions),
        "commit": record.commit,
        "hardware": dict(record.hardware),
        "memory_bytes": dict(record.memory_bytes),
        "base": config.base.model_dump(mode="json"),
        "grid": config.grid,
        "also": config.also,
        "seeds": config.seeds,
    }
