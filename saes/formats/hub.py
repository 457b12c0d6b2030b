"""SAEs on the Hugging Face hub: from a repository and an id to a local folder or file."""

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from interp.errors import ArtifactError
from saes.formats.source import Source

WANTED = ("*.json", "*.safetensors", "*.npz", "*.pt")


def fetch(
    repository: str, sae_id: str | None, *, hook: str | None = None, activation_scale: float | None = None
) -> Source:
    """Download what belongs to one SAE, or find it in the hub's cache.

    Raises: ArtifactError in one line if it cannot be had.
    """
    inside = [f"{sae_id}/{pattern}" for pattern in WANTED] if sae_id else list(WANTED)
    # A single file may be the id; sparsify says one level up what was trained on.
    wanted = [*inside, sae_id or "", "config.json"]
    # Without an id, only what is not in a folder: a repository may hold hundreds of SAEs.
    unwanted = None if sae_id else ["*/*"]
    try:
        root = Path(snapshot_download(repository, allow_patterns=wanted, ignore_patterns=unwanted))
    except LocalEntryNotFoundError:
        raise ArtifactError(
            f"{repository}: no such folder, and not in the hub's cache, while the hub cannot be reached or "
            "HF_HUB_OFFLINE is set; download it once with network, or give a local folder"
        ) from None
    except (OSError, ValueError, HfHubHTTPError) as error:
        reason = " ".join(str(error).split())
        raise ArtifactError(f"{repository}: no such folder, and no hub repository: {reason}") from None
    path = root / sae_id if sae_id else root
    if not path.exists():
        raise ArtifactError(
            f"{repository}: the hub's cache holds no {sae_id}; check the id, or download it once with network"
        )
    return Source(path=path, repository=repository, sae_id=sae_id, hook=hook, activation_scale=activation_scale)
