"""The parts of a model from its folder, by transformers; whatever is wrong with the files is told in one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from interp.errors import ModelError
from interp.families import Family
from interp.model_files import one_line

# What transformers raises over files that are damaged or do not fit each other.
LOADING_ERRORS = (
    *(OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, ArithmeticError, ImportError),
    *(SafetensorError, StrictDataclassError),
)


def load_config(folder: Path) -> PreTrainedConfig:
    """Raises: ModelError if transformers cannot use config.json."""
    try:
        with _quiet_transformers():
            config: PreTrainedConfig = AutoConfig.from_pretrained(folder, local_files_only=True)
    except LOADING_ERRORS as error:
        raise ModelError(f"{folder}/config.json is not usable ({one_line(error)}); restore the file") from None
    return config


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Raises: ModelError if there are no tokenizer files, or none that can be read."""
    # Without these files some tokenizer classes come up empty instead of failing.
    if not any((folder / file).is_file() for file in ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")):
        raise ModelError(f"{folder} has no tokenizer files; copy tokenizer.json and tokenizer_config.json beside it")
    try:
        with _quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        # The tokenizers library reports a file that it cannot use as a plain Exception: nothing narrower to catch.
        if type(error) is not Exception and not isinstance(error, LOADING_ERRORS):
            raise
        raise ModelError(f"{folder}: the tokenizer cannot be read ({one_line(error)}); restore its files") from None
    if len(tokenizer) == 0:
        raise ModelError(f"{folder}: the tokenizer has no tokens; restore tokenizer.json")
    return tokenizer


def load_weights(folder: Path, family: Family, **settings: Any) -> PreTrainedModel:
    """A causal language model, or an encoder's base model; `settings` go to transformers.

    Raises: ModelError if the weights cannot be read or do not belong to config.json.
    """
    loader = AutoModelForCausalLM if family.causal else AutoModel
    try:
        with _quiet_transformers():
            # The dtype is explicit: a half-precision folder would otherwise stay half. Mismatched sizes are let
            # through here only to be named below.
            loaded: Any = loader.from_pretrained(
                folder, local_files_only=True, output_loading_info=True, ignore_mismatched_sizes=True, **settings
            )
    except LOADING_ERRORS as error:
        raise ModelError(
            f"{folder}: the model cannot be built ({one_line(error)}); "
            "config.json and the safetensors files must be whole and belong together"
        ) from None
    hf, info = loaded
    # transformers would only warn of these, and fill what is missing with random numbers.
    for kind in ("missing", "mismatched", "unexpected"):
        keys = {str(key) for key in info[f"{kind}_keys"] if not _is_unread(family, kind, str(key))}
        if keys:
            raise ModelError(
                f"{folder}: weights and config.json do not belong together: {kind} {min(keys)}; "
                "restore both from the same model"
            )
    model: PreTrainedModel = hf.requires_grad_(False)
    return model


def _is_unread(family: Family, kind: str, key: str) -> bool:
    """Whether a key belongs to what nobody reads: old masks; of an encoder, its pooler and its task heads."""
    in_block = key.removeprefix(f"{family.blocks}.").partition(".")[2]
    if kind == "unexpected" and in_block in family.old_buffers:
        return True
    if family.causal:
        return False
    body = ("embeddings.", family.blocks.partition(".")[0] + ".")
    inner = key.partition(".")[2]
    return key.startswith("pooler.") or (
        kind == "unexpected" and not key.startswith(body) and not inner.startswith(body)
    )


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """No progress bar and no load report: what matters of them is raised."""
    verbosity, bar = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bar:
            transformers_logging.enable_progress_bar()
