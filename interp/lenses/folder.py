"""What a lens run leaves in its folder, and a trained lens read back from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from interp.errors import ArtifactError
from interp.lenses.config import LensConfig
from interp.lenses.divergence import LensDivergence
from interp.lenses.future import FutureLens
from interp.lenses.table import LensTable
from interp.lenses.transplant import fixed_contexts
from interp.lenses.tuned import TunedLens
from interp.models import Model, load_model
from interp.runs import RunFolder
from interp.storage import make_folder, read_json, read_tensors, write_json, write_tensors


@dataclass(frozen=True, slots=True)
class LensFolder:
    """Paths of a lens run: lens/, divergence.json of a tuned lens, table.json of a Future Lens, grids, report.html."""

    run: RunFolder

    @classmethod
    def open(cls, path: Path | str) -> "LensFolder":
        """An existing run.

        Raises: ArtifactError if the folder is missing or holds a run of another kind.
        """
        run = RunFolder.open(path)
        kind = run.manifest().kind
        if kind != "lens":
            raise ArtifactError(f"{path}: holds a run of kind {kind!r}; expected one of `interp lens train`")
        return cls(run)

    @property
    def weights(self) -> Path:
        return self.run.path / "lens" / "lens.safetensors"

    @property
    def facts(self) -> Path:
        return self.run.path / "lens" / "lens.json"

    @property
    def divergence_path(self) -> Path:
        return self.run.path / "divergence.json"

    @property
    def table_path(self) -> Path:
        return self.run.path / "table.json"

    @property
    def grid_path(self) -> Path:
        return self.run.path / "grid.json"

    @property
    def config(self) -> LensConfig:
        return self.run.config(LensConfig)

    def divergence(self) -> LensDivergence | None:
        """The comparison of tuned and logit lens; None where it was not made."""
        return LensDivergence.load(self.divergence_path) if self.divergence_path.exists() else None

    def table(self) -> LensTable | None:
        """The table of arms; None where it was not measured."""
        return LensTable.load(self.table_path) if self.table_path.exists() else None

    def save(self, lens: TunedLens | FutureLens, facts: dict[str, Any]) -> None:
        """Write the trained lens."""
        make_folder(self.weights.parent)
        digest = write_tensors(self.weights, lens.state_dict())
        write_json(self.facts, {"schema_version": 1, "hooks": list(lens.hooks), "sha256": digest, **facts})


def new_lens(config: LensConfig, model: Model) -> TunedLens | FutureLens:
    """The untrained lens of a config.

    Raises: ModelError for an encoder; ConfigError for hooks, contexts or methods that do not fit.
    """
    if config.lens == "tuned":
        return TunedLens(model, config.hooks)
    future = config.future
    return FutureLens(
        model,
        contexts=fixed_contexts(model, future.contexts),
        hooks=config.hooks,
        n_distances=future.distances,
        methods=future.methods,
        modes=future.modes,
        seed=config.seed,
    )


def load_lens(path: Path | str, *, model_name: str | None = None, device: str | None = None) -> TunedLens | FutureLens:
    """The trained lens of a run, around its model.

    Raises: ArtifactError if it is unfinished, damaged, or the model is another one than it was trained on.
    """
    folder = LensFolder.open(path)
    if not folder.facts.exists():
        raise ArtifactError(f"{path}: its lens is not trained to the end; go on with `interp lens train --resume`")
    config, held = folder.config, read_json(folder.facts)
    model = load_model(model_name or config.model, device=device or config.device, dtype=config.dtype)
    was = folder.run.manifest().model.get("content_hash")
    if was != model.content_hash:
        raise ArtifactError(
            f"{path}: was trained on a model of hash {str(was)[:12]}…; got {model.name}, {model.content_hash[:12]}…; "
            "give the same model with --model"
        )
    lens = new_lens(config, model)
    tensors = read_tensors(folder.weights, sha256=held["sha256"])
    _check_shapes(lens.state_dict(), tensors, folder.weights)
    lens.load_state_dict({name: tensor.to(model.device) for name, tensor in tensors.items()})
    return lens.requires_grad_(False)


def _check_shapes(expected: dict[str, torch.Tensor], got: dict[str, torch.Tensor], path: Path) -> None:
    wanted, held = ({name: tuple(x.shape) for name, x in one.items()} for one in (expected, got))
    if wanted != held:
        raise ArtifactError(f"{path}: holds {_named(held)}; expected {_named(wanted)}; train the lens again")


def _named(shapes: dict[str, tuple[int, ...]]) -> str:
    names: Sequence[str] = [f"{name} {shape}" for name, shape in shapes.items()]
    return ", ".join(names) or "nothing"
