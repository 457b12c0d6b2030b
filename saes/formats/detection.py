"""Which format a folder or file is in, told by its file names alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from interp.errors import ArtifactError
from saes.formats import dictionary_learning, gemma_scope, llama_scope, openai, saelens, sparsify
from saes.formats.source import Source
from saes.formats.stored import StoredSAE


@dataclass(frozen=True, slots=True)
class Format:
    """How SAEs of one library or release are recognised and read: any of the sets of files will do."""

    name: str
    files: tuple[frozenset[str], ...]
    read: Callable[[Source], StoredSAE]


def _format(name: str, read: Callable[[Source], StoredSAE], *files: str) -> Format:
    return Format(name, tuple(frozenset(some.split()) for some in files), read)


FORMATS: Mapping[str, Format] = {
    one.name: one
    for one in (
        _format("saelens", saelens.read, f"{saelens.CONFIG} {saelens.WEIGHTS}"),
        _format("sparsify", sparsify.read, f"{sparsify.CONFIG} {sparsify.WEIGHTS}"),
        _format("dictionary_learning", dictionary_learning.read, dictionary_learning.WEIGHTS),
        _format("gemma_scope", gemma_scope.read, gemma_scope.ARRAYS, gemma_scope.TENSORS),
        _format(
            "llama_scope", llama_scope.read, llama_scope.FIRST, f"{llama_scope.SECOND} {llama_scope.SECOND_WEIGHTS}"
        ),
    )
}
"""In the order in which they are tried; OpenAI's are single files."""
OPENAI = Format("openai", (), openai.read)


def format_of(path: Path) -> Format:
    """The format that the file names tell.

    Raises: ArtifactError, with what was found, if they tell none.
    """
    if path.is_file():
        if path.suffix == ".pt" and path.name != dictionary_learning.WEIGHTS:
            return OPENAI
        raise ArtifactError(f"{path}: is a file; give the folder that it is in (OpenAI's .pt alone are single files)")
    if not path.is_dir():
        raise ArtifactError(f"{path}: no such folder or file; check the path")
    try:
        names = {entry.name for entry in path.iterdir()}
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror or error}); check its permissions") from None
    for one in FORMATS.values():
        if any(files <= names for files in one.files):
            return one
    raise ArtifactError(f"{path}: holds no saved SAE; {_hint(path, names)}")


def read_stored(source: Source) -> StoredSAE:
    """Read a folder or file in whichever format it is.

    Raises: ArtifactError in one line that names the path.
    """
    one = format_of(source.path)
    try:
        return one.read(source)
    except ArtifactError as error:
        where = "" if str(source.path) in str(error) else f"{source.path}: "
        raise ArtifactError(f"{where}{error}") from None


def _hint(path: Path, names: set[str]) -> str:
    if saelens.CONFIG in names:
        return f"{saelens.CONFIG} is there without {saelens.WEIGHTS} or {sparsify.WEIGHTS}"
    inner = [name for name in sorted(names) if _is_known(path / name)]
    if inner:
        return f"give {path / inner[0]}" + (f", or another of {len(inner)} in it" if len(inner) > 1 else "")
    files = [name for name in sorted(names) if name.endswith(".pt")]
    if files:
        return (
            f"give the file {path / files[0]} itself" if len(files) == 1 else f"give one of its {len(files)} .pt files"
        )
    return "expected cfg.json, ae.pt, params.npz or hyperparams.json: " + ", ".join([*FORMATS, OPENAI.name])


def _is_known(folder: Path) -> bool:
    try:
        names = {entry.name for entry in folder.iterdir()}
    except OSError:  # No folder, or one that may not be read.
        return False
    return any(files <= names for one in FORMATS.values() for files in one.files)
