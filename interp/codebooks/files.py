"""What a codebook run leaves: codebooks and the finetuned weights, beside a base model that nothing was written to.

Layout: runs/<name>/codebooks/{codebooks.safetensors, codebooks.json}, runs/<name>/model/ in Hugging Face layout.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp.codebooks.config import CodebookConfig
from interp.codebooks.insertion import Codebooks, Insertion
from interp.codebooks.quantise import Quantiser
from interp.errors import ArtifactError, ConfigError
from interp.models import Model, load_model
from interp.runs import RunFolder
from interp.storage import make_folder, new_folder, read_json, read_tensors, told, write_json, write_tensors

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class CodebookFolder:
    """Paths of a codebook run."""

    run: RunFolder

    @classmethod
    def open(cls, path: Path | str) -> "CodebookFolder":
        """An existing run.

        Raises: ArtifactError if the folder is missing or holds a run of another kind.
        """
        run = RunFolder.open(path)
        if (kind := run.manifest().kind) != "codebook":
            raise ArtifactError(f"{path}: holds a run of kind {kind!r}; expected one of `interp codebook train`")
        return cls(run)

    @property
    def model(self) -> Path:
        return self.run.path / "model"

    @property
    def weights(self) -> Path:
        return self.run.path / "codebooks" / "codebooks.safetensors"

    @property
    def facts(self) -> Path:
        return self.run.path / "codebooks" / "codebooks.json"

    @property
    def inspection_path(self) -> Path:
        return self.run.path / "inspection.json"

    @property
    def record_path(self) -> Path:
        return self.run.path / "codebooks" / "record.safetensors"

    @property
    def config(self) -> CodebookConfig:
        return self.run.config(CodebookConfig)


@dataclass(frozen=True, slots=True)
class CodebookModel:
    """A finetuned model and the codebooks that belong into it. The model is as loaded: nothing is inserted yet."""

    model: Model
    codebooks: Codebooks
    folder: CodebookFolder

    @property
    def config(self) -> CodebookConfig:
        return self.folder.config

    def inserted(self) -> Insertion:
        """The codebooks at work, until the context ends."""
        return Insertion(self.model, self.codebooks)


def save_codebooks(folder: CodebookFolder, model: Model, codebooks: Codebooks) -> None:
    """Write the finetuned weights and the codebooks.

    Raises: StorageError.
    """
    with new_folder(folder.model) as temporary, told(temporary):
        model.hf.save_pretrained(temporary)
        model.tokenizer.save_pretrained(temporary)
        for file in temporary.iterdir():
            file.chmod(0o644)
    saved = load_model(str(folder.model), device="cpu")
    make_folder(folder.weights.parent)
    digest = write_tensors(folder.weights, codebooks.state_dict())
    held = {hook: _shape(quantiser) for hook, quantiser in codebooks.items()}
    facts = {"schema_version": SCHEMA_VERSION, "kind": "codebooks", "codebooks": held, "sha256": digest}
    base = folder.run.manifest().model
    write_json(folder.facts, facts | {"base": base, "finetuned_content_hash": saved.content_hash})


def _shape(quantiser: Quantiser) -> dict[str, Any]:
    names = ("width", "n_codes", "k", "n_groups", "combine")
    return {name: getattr(quantiser, name) for name in names}


def read_codebooks(folder: CodebookFolder) -> tuple[Codebooks, str]:
    """The codebooks of a run, on the CPU, and the content hash of the model that they belong into.

    Raises: ArtifactError if they are not there, damaged or of another version.
    """
    if not folder.facts.exists():
        raise ArtifactError(
            f"{folder.run.path}: is not trained to the end; go on with `interp codebook train --resume`"
        )
    held = read_json(folder.facts)
    if not isinstance(held, Mapping) or held.get("schema_version") != SCHEMA_VERSION:
        raise ArtifactError(f"{folder.facts}: is no codebook file of version {SCHEMA_VERSION}; train again")
    try:
        codebooks = Codebooks({hook: Quantiser(**shape) for hook, shape in held["codebooks"].items()})
        codebooks.load_state_dict(read_tensors(folder.weights, sha256=held["sha256"]))
        return codebooks, str(held["finetuned_content_hash"])
    except (AttributeError, ConfigError, KeyError, TypeError, RuntimeError):
        raise ArtifactError(f"{folder.facts}: does not fit {folder.weights.name}; train again") from None


def load_codebook_model(path: Path | str, *, device: str = "auto") -> CodebookModel:
    """The finetuned model of a run with its codebooks.

    Raises: ArtifactError if it is unfinished or damaged, or the weights beside the codebooks are others.
    """
    folder = CodebookFolder.open(path)
    codebooks, content_hash = read_codebooks(folder)
    model = load_model(str(folder.model), device=device)
    if model.content_hash != content_hash:
        raise ArtifactError(
            f"{folder.model}: holds other weights than the codebooks were trained in ({model.content_hash[:12]}…, "
            f"expected {content_hash[:12]}…); restore the folder or train again"
        )
    return CodebookModel(model, codebooks.to(model.device), folder)
