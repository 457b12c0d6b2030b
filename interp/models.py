"""The only loader of language models: folder, hub name or the embedded one -> Model."""

import copy
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from interp.errors import ConfigError, MissingDependencyError, ModelError
from interp.hook_names import Sizes, family_of, hook_points, unknown_hook
from interp.hook_points import HookPoint, detach_all
from interp.model_files import find_folder, hash_files, model_type_of, one_line, tokenizer_files, weight_files
from interp.weights import hash_weights, randomise

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# What transformers raises over files that are damaged or do not fit each other.
LOADING_ERRORS = (
    *(OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, ArithmeticError, ImportError),
    *(SafetensorError, StrictDataclassError),
)


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A causal language model with its tokenizer, its hooks by TransformerLens name, and a hash of its content."""

    hf: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    family: str
    content_hash: str
    sizes: Sizes

    def __repr__(self) -> str:
        return f"Model({self.name!r}, {self.family}, {self.n_layers} layers, d_model={self.d_model}, {self.device})"

    @property
    def facts(self) -> dict[str, str]:
        """What a manifest records of the model."""
        dtype = str(self.dtype).removeprefix("torch.")
        return {"name": self.name, "family": self.family, "content_hash": self.content_hash, "dtype": dtype}

    @property
    def dtype(self) -> torch.dtype:
        return self.hf.dtype

    @property
    def device(self) -> torch.device:
        return self.hf.device

    @property
    def n_layers(self) -> int:
        return self.sizes.n_layers

    @property
    def d_model(self) -> int:
        return self.sizes.d_model

    @property
    def d_vocab(self) -> int:
        return int(self.hf.config.vocab_size)

    @property
    def context_size(self) -> int:
        return int(self.hf.config.max_position_embeddings)

    @property
    def bos_token_id(self) -> int | None:
        """The tokenizer's beginning-of-sequence token; None where it has none."""
        token: int | None = self.tokenizer.bos_token_id
        return token

    @cached_property
    def hooks(self) -> dict[str, HookPoint]:
        """All hook points by name, in the order in which a forward pass reaches them."""
        return hook_points(family_of(self.family), self.sizes)

    def hook(self, name: str) -> HookPoint:
        """The hook point of that name.

        Raises: UnknownHookError with the closest names.
        """
        if name not in self.hooks:
            raise unknown_hook(name, self.hooks, self.name, self.n_layers)
        return self.hooks[name]

    @cached_property
    def bridge(self) -> Any:
        """TransformerLens's TransformerBridge on a deep copy, for what plain hooks do not reach (attention patterns).

        Never the shared module: booting rewires most of its submodules and forces the slower eager attention.

        Raises: MissingDependencyError if transformer-lens is not installed.
        """
        try:
            from transformer_lens.model_bridge import TransformerBridge
        except ImportError:
            raise MissingDependencyError(
                "transformer-lens is not installed; Model.bridge needs it: pip install 'interp-workbench[bridge]'"
            ) from None
        twin, tokenizer = copy.deepcopy(self.hf), copy.deepcopy(self.tokenizer)
        detach_all(twin)
        # Without these facts the bridge would load the tokenizer a second time, perhaps from the network.
        tokenizer.init_kwargs |= {"name_or_path": twin.name_or_path, "add_bos_token": True}
        return TransformerBridge.boot_transformers(
            twin.name_or_path or "in-memory",
            hf_model=twin,
            tokenizer=tokenizer,
            device=str(self.device),
            dtype=self.dtype,
        )


def load_model(name: str, *, device: str = "auto", dtype: str = "float32", randomise_seed: int | None = None) -> Model:
    """Load "embedded", a Hugging Face folder or a hub name, ready for inference.

    `randomise_seed` gives the null arm "same model with random weights" (see `randomise`).

    Raises: ConfigError for an unknown dtype or absent device; ModelError, in one line, for anything wrong with the
    model's name or files.
    """
    torch_device, torch_dtype = resolve_device(device), resolve_dtype(dtype)
    folder = find_folder(name)
    family_of(model_type_of(folder))
    files = weight_files(folder)
    config = _load_config(folder)
    tokenizer = _load_tokenizer(folder)
    hf = _load_weights(folder, config, torch_dtype, torch_device)
    content_hash = hash_files([folder / "config.json", *files, *tokenizer_files(folder)])
    if randomise_seed is not None:
        randomise(hf, randomise_seed)
        content_hash = hashlib.sha256(f"{content_hash} randomised {randomise_seed}".encode()).hexdigest()
    return wrap_model(hf, tokenizer, name=name, content_hash=content_hash)


def wrap_model(
    hf: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, name: str, content_hash: str | None = None
) -> Model:
    """A Model around modules already in memory, put into evaluation mode; the hash is over config and tensors.

    Raises: ModelError for an unsupported family or a tokenizer that does not belong to the model.
    """
    family = hf.config.model_type
    family_of(family)
    if len(tokenizer) > hf.config.vocab_size:
        raise ModelError(
            f"{name}: got a tokenizer of {len(tokenizer)} tokens for a model of {hf.config.vocab_size}; "
            "expected the model's own tokenizer; restore the tokenizer files"
        )
    return Model(hf.eval(), tokenizer, name, family, content_hash or hash_weights(hf), Sizes.of(hf.config))


def resolve_device(device: str) -> torch.device:
    """ "auto" is CUDA where there is one.

    Raises: ConfigError if CUDA is asked for and absent, or the name is unknown.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device not in ("cpu", "cuda"):
        raise ConfigError(f"device: got {device!r}; expected auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: got 'cuda', but this machine or this torch has no CUDA; use auto or cpu")
    return torch.device(device)


def resolve_dtype(dtype: str) -> torch.dtype:
    """A torch dtype by name.

    Raises: ConfigError naming the known ones.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"dtype: got {dtype!r}; expected one of {', '.join(DTYPES)}")
    return DTYPES[dtype]


def _load_config(folder: Path) -> PreTrainedConfig:
    try:
        with _quiet_transformers():
            config: PreTrainedConfig = AutoConfig.from_pretrained(folder, local_files_only=True)
    except LOADING_ERRORS as error:
        raise ModelError(f"{folder}/config.json is not usable ({one_line(error)}); restore the file") from None
    return config


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    # Without these files some tokenizer classes come up empty instead of failing.
    if not any((folder / file).is_file() for file in ("tokenizer.json", "tokenizer.model", "vocab.json")):
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


def _load_weights(folder: Path, config: PreTrainedConfig, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    try:
        with _quiet_transformers():
            # The dtype is explicit: a half-precision folder would otherwise stay half. Mismatched sizes are let
            # through here only to be named below.
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                config=config,
                dtype=dtype,
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
    except LOADING_ERRORS as error:
        raise ModelError(
            f"{folder}: the model cannot be built ({one_line(error)}); "
            "config.json and the safetensors files must be whole and belong together"
        ) from None
    hf, info = loaded
    # transformers would only warn of these, and fill what is missing with random numbers.
    for kind in ("missing", "mismatched", "unexpected"):
        if info[f"{kind}_keys"]:
            raise ModelError(
                f"{folder}: weights and config.json do not belong together: {kind} {min(info[f'{kind}_keys'])}; "
                "restore both from the same model"
            )
    model: PreTrainedModel = hf.requires_grad_(False).to(device)
    return model


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
