"""Where an SAE is read from, and what the reader was told beside its files."""

import re
from dataclasses import dataclass
from pathlib import Path

from interp.errors import ArtifactError


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A folder or file, with the hub's name for it where it has one.

    `hook` and `activation_scale` are what the caller says of an SAE whose files do not.
    """

    path: Path
    repository: str | None = None
    sae_id: str | None = None
    hook: str | None = None
    activation_scale: float | None = None

    @staticmethod
    def of(path: Path, *, hook: str | None = None, activation_scale: float | None = None) -> "Source":
        """A local path; in the hub's cache it also tells repository and id."""
        parts = path.absolute().parts
        for i, part in enumerate(parts):
            if part.startswith("models--") and parts[i + 1 : i + 2] == ("snapshots",):
                repository = part.removeprefix("models--").replace("--", "/", 1)
                sae_id = "/".join(parts[i + 3 :]) or None
                return Source(
                    path=path, repository=repository, sae_id=sae_id, hook=hook, activation_scale=activation_scale
                )
        return Source(path=path, hook=hook, activation_scale=activation_scale)

    @property
    def folder(self) -> Path:
        return self.path if self.path.is_dir() else self.path.parent

    @property
    def name(self) -> str:
        """What releases encode their facts in: repository and id, or the end of the path."""
        return f"{self.repository}/{self.sae_id}" if self.repository else "/".join(self.path.absolute().parts[-4:])

    def is_of(self, repository: str) -> bool:
        """Whether it comes from this repository, or from a local copy under the repository's own name."""
        return repository == self.repository or repository.split("/")[1] in self.path.absolute().parts

    def hook_or(self, found: str | None, *, reason: str) -> str:
        """The hook that the caller names, or the one found in the files.

        Raises: ArtifactError giving the reason if there is neither.
        """
        hook = self.hook or found
        if hook is None:
            raise ArtifactError(f"{reason}; say at which hook it was trained, as in hook='blocks.6.hook_resid_post'")
        return hook

    def layer(self, pattern: str) -> int | None:
        """The number that the pattern's first group finds last in the name."""
        found = re.findall(pattern, self.name)
        return int(found[-1]) if found else None
