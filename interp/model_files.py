"""From a model's name to a checked local folder, and a hash of what is in it."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from interp.errors import ModelError
from interp.storage import is_there

EMBEDDED = "embedded"
EMBEDDED_FOLDER = Path(__file__).parent / "assets" / "model"
WANTED_FROM_HUB = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]


def find_folder(name: str) -> Path:
    """The local folder of `name`: the embedded model, a folder, or a hub name (downloaded or in the hub's cache).

    Raises: ModelError saying what was tried.
    """
    if name == EMBEDDED:
        if not EMBEDDED_FOLDER.is_dir():
            raise ModelError(f"the embedded model is missing: no folder {EMBEDDED_FOLDER}; reinstall, or name another")
        return EMBEDDED_FOLDER
    if not name.strip():
        raise ModelError(f"got an empty model name; give a Hugging Face model folder, a hub name or {EMBEDDED!r}")
    folder = Path(name).expanduser()
    there = is_there(folder)
    if folder.is_dir():
        return folder
    if there:
        raise ModelError(f"{name} is a file; expected a model's folder (config.json, *.safetensors, tokenizer files)")
    if name.startswith(("/", "./", "../", "~")) or name.count("/") > 1:
        raise ModelError(f"{name}: no such folder; give a Hugging Face model folder, a hub name or {EMBEDDED!r}")
    return _from_hub(name)


def model_type_of(folder: Path) -> str:
    """The architecture that config.json names.

    Raises: ModelError if it is missing, is not JSON or names none.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{folder} has no config.json; give a Hugging Face model folder") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON ({one_line(error)}); restore the file") from None
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise ModelError(f"{path} names no model_type; expected the config of a Hugging Face causal language model")
    model_type: str = config["model_type"]
    return model_type


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of the weights: one, or the shards that the index names.

    Raises: ModelError if there are none or a shard is missing.
    """
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if not index.is_file():
        raise ModelError(
            f"{folder} has no model.safetensors; only safetensors weights are read (no pickle): convert others with "
            "transformers' save_pretrained"
        )
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ModelError(f"{index} cannot be read ({one_line(error)}); restore the file") from None
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ModelError(f"{folder} lacks the shard {missing[0]}, which {index.name} names; restore or download it")
    return [folder / name for name in names]


def tokenizer_files(folder: Path) -> list[Path]:
    """Whatever of the usual tokenizer files is there: the same weights read other text with another tokenizer."""
    names = ("merges.txt", "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt")
    return [folder / name for name in names if (folder / name).is_file()]


def hash_files(paths: Iterable[Path]) -> str:
    """SHA-256 over names and contents, independent of where the files are.

    Raises: ModelError if a file cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        try:
            with path.open("rb") as file:
                inner = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ModelError(f"{path} cannot be read ({one_line(error)}); check the file and its permissions") from None
        digest.update(f"{path.name} {inner}\n".encode())
    return digest.hexdigest()


def one_line(error: Exception) -> str:
    """An error's message without line breaks."""
    return " ".join(str(error).split())


def _from_hub(name: str) -> Path:
    try:
        return Path(snapshot_download(name, allow_patterns=WANTED_FROM_HUB, ignore_patterns=["*/*"]))
    except LocalEntryNotFoundError:
        reason = "it is not in the hub's cache, and the hub cannot be reached or HF_HUB_OFFLINE is set"
    except (OSError, ValueError, HfHubHTTPError) as error:
        reason = one_line(error)
    raise ModelError(f"{name}: no such folder, and no hub model: {reason}; give a local folder or {EMBEDDED!r}")
