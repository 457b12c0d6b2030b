"""The only loader of models: folder, hub name or the embedded one -> Model."""

import copy
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForMaskedLM, PreTrainedModel, PreTrainedTokenizerBase

from interp.errors import ConfigError, MissingDependencyError, ModelError
from interp.families import Family, family_of
from interp.hook_names import Sizes, hook_points, unknown_hook
from interp.hook_points import HookPoint, detach_all
from interp.model_files import find_folder, hash_files, model_type_of, tokenizer_files, weight_files
from interp.model_loading import load_config, load_tokenizer, load_weights
from interp.quantised import quantisation_of
from interp.row_frame import RowFrame
from interp.weights import hash_weights, randomise

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A pretrained transformer with its tokenizer, its hooks by TransformerLens name, and a hash of its content.

    Causal language models come with their unembedding; encoders (BERT and its kin) as their base model, without heads.
    `others` are models that read the same tokens; their hooks are named `NAME:blocks.2.hook_resid_post` (see `beside`).
    """

    hf: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    family: str
    content_hash: str
    sizes: Sizes
    quantisation: str | None = None
    others: Mapping[str, "Model"] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Model({self.name!r}, {self.family}, {self.n_layers} layers, d_model={self.d_model}, {self.device})"

    @property
    def facts(self) -> dict[str, Any]:
        """What a manifest records of the model."""
        dtype = str(self.dtype).removeprefix("torch.")
        known = {"name": self.name, "family": self.family, "content_hash": self.content_hash, "dtype": dtype}
        more: dict[str, Any] = {} if self.quantisation is None else {"quantisation": self.quantisation}
        if self.others:
            more["others"] = {name: other.facts for name, other in self.others.items()}
        return {**known, **more, "bos": self.frame.facts}

    @property
    def paths(self) -> Family:
        """Where the architecture keeps its parts."""
        return family_of(self.family)

    @property
    def causal(self) -> bool:
        """Whether tokens see only what stands before them; encoders need the attention mask and predict no next one."""
        return self.paths.causal

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
        return int(self.hf.config.get_text_config().vocab_size)

    @property
    def context_size(self) -> int:
        """Most tokens that a row may hold."""
        config = self.hf.config.get_text_config()
        unused = config.pad_token_id + 1 if self.paths.positions_from_padding else 0
        return int(config.max_position_embeddings) - unused

    @cached_property
    def frame(self) -> RowFrame:
        """What stands before and after a text in this model's rows."""
        return RowFrame.of(self.tokenizer, causal=self.causal)

    @property
    def bos_token_id(self) -> int | None:
        """The tokenizer's beginning-of-sequence token (an encoder's [CLS]); None where it has none."""
        return self.frame.begin

    @property
    def unembedding(self) -> nn.Module | None:
        """The map from the final norm's output to logits; None for an encoder, which has no such path."""
        return self.hf.get_output_embeddings() if self.causal else None

    @property
    def final_norm(self) -> nn.Module | None:
        """The norm before the unembedding; None for an encoder, whose blocks end with norms of their own."""
        return None if self.paths.ln_final is None else self.hf.get_submodule(self.paths.ln_final)

    @cached_property
    def hooks(self) -> dict[str, HookPoint]:
        """All hook points by name, in the order in which a forward pass reaches them."""
        return hook_points(self.paths, self.sizes)

    def hook(self, name: str) -> HookPoint:
        """The hook point of that name; one of another model is a place in that model (see `owner`).

        Raises: UnknownHookError with the closest names.
        """
        owner, local = self.owner(name)
        if owner is not self:
            return replace(owner.hook(local), name=name)
        if name not in self.hooks:
            raise unknown_hook(name, self.hooks, self.name, self.n_layers)
        return self.hooks[name]

    def owner(self, name: str) -> tuple["Model", str]:
        """The model that a hook belongs to, and its name there."""
        prefix, found, local = name.partition(":")
        return (self.others[prefix], local) if found and prefix in self.others else (self, name)

    def beside(self, name: str, other: "Model") -> "Model":
        """The same with another model, which reads the same tokens, under the prefix `name:`.

        Raises: ModelError if the two do not have the same vocabulary, or one is an encoder and the other is not.
        """
        same = self.tokenizer.get_vocab() == other.tokenizer.get_vocab() and self.causal == other.causal
        if not same or self.frame != other.frame:
            raise ModelError(
                f"{other.name}: got a model that reads other tokens than {self.name}; expected the same tokenizer; "
                "give a finetuned copy of the same base, or one of the same family"
            )
        return replace(self, others={**self.others, name: other})

    @cached_property
    def bridge(self) -> Any:
        """TransformerLens's TransformerBridge on a deep copy, for what plain hooks do not reach (attention patterns).

        Never the shared module: booting rewires most of its submodules and forces the slower eager attention. An
        encoder gets a head of random weights, since the bridge asks for one: its logits mean nothing.

        Raises: MissingDependencyError if transformer-lens is not installed.
        """
        try:
            from transformer_lens.model_bridge import TransformerBridge
            from transformer_lens.model_bridge.sources.transformers import helpers
        except ImportError:
            raise MissingDependencyError(
                "transformer-lens is not installed; Model.bridge needs it: pip install 'interp-workbench[bridge]'"
            ) from None
        # For some families TransformerLens 4.3 runs pip to fetch torchvision, and a newer torch with it.
        helpers._ensure_torchvision = lambda: False
        twin, tokenizer = copy.deepcopy(self.hf), copy.deepcopy(self.tokenizer)
        detach_all(twin)
        # Without these facts the bridge would load the tokenizer a second time, perhaps from the network.
        tokenizer.init_kwargs |= {"name_or_path": twin.name_or_path, "add_bos_token": True}
        booted = twin if self.causal else _with_head(twin)
        # What the bridge goes by; a model made from a config need not name it.
        booted.config.architectures = [type(booted).__name__]
        return TransformerBridge.boot_transformers(
            twin.name_or_path or "in-memory",
            hf_model=booted,
            tokenizer=tokenizer,
            device=str(self.device),
            dtype=self.dtype,
        )


def _with_head(base: PreTrainedModel) -> PreTrainedModel:
    """An encoder under a masked-language head."""
    headed: Any = AutoModelForMaskedLM.from_config(base.config).to(base.device, base.dtype).eval()
    setattr(headed, headed.base_model_prefix, base)
    model: PreTrainedModel = headed
    return model


def load_model(name: str, *, device: str = "auto", dtype: str = "float32", randomise_seed: int | None = None) -> Model:
    """Load "embedded", a Hugging Face folder or a hub name, ready for inference.

    `randomise_seed` gives the null arm "same model with random weights" (see `randomise`). `dtype` is that of the
    computation; quantised weights stay as they are stored.

    Raises: ConfigError for an unknown dtype or absent device; ModelError, in one line, for anything wrong with the
    model's name or files; MissingDependencyError if a quantised model needs a package that is not there.
    """
    torch_device, torch_dtype = resolve_device(device), resolve_dtype(dtype)
    folder = find_folder(name)
    family = family_of(model_type_of(folder))
    quantisation = quantisation_of(folder)
    if quantisation is not None and randomise_seed is not None:
        raise ConfigError(f"{name}: quantised weights cannot be shuffled; give the model in full precision")
    files = weight_files(folder)
    config = load_config(folder)
    tokenizer = load_tokenizer(folder)
    # Quantised modules refuse to be moved: they are loaded where they shall stay.
    place = {} if quantisation is None else {"device_map": {"": torch_device}}
    hf: Any = load_weights(folder, family, config=config, dtype=torch_dtype, **place)
    content_hash = hash_files([folder / "config.json", *files, *tokenizer_files(folder)])
    if randomise_seed is not None:
        randomise(hf, randomise_seed)
        content_hash = hashlib.sha256(f"{content_hash} randomised {randomise_seed}".encode()).hexdigest()
    model = wrap_model(hf if quantisation else hf.to(torch_device), tokenizer, name=name, content_hash=content_hash)
    return replace(model, quantisation=quantisation)


def wrap_model(
    hf: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, name: str, content_hash: str | None = None
) -> Model:
    """A Model around modules already in memory, put into evaluation mode; the hash is over config and tensors.

    Of an encoder with heads the base model alone is taken.

    Raises: ModelError for an unsupported family or a tokenizer that does not belong to the model.
    """
    family = hf.config.model_type
    body: Any = hf if family_of(family).causal else hf.base_model
    config = hf.config.get_text_config()
    d_vocab = config.vocab_size
    # Special tokens beyond the vocabulary are let through: Gemma 3 has one for images that its text model lacks.
    special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    if len(tokenizer) - sum(token >= d_vocab for token in special) > d_vocab:
        raise ModelError(
            f"{name}: got a tokenizer of {len(tokenizer)} tokens for a model of {d_vocab}; "
            "expected the model's own tokenizer; restore the tokenizer files"
        )
    return Model(body.eval(), tokenizer, name, family, content_hash or hash_weights(body), Sizes.of(hf.config))


def resolve_device(device: str, *, setting: str = "device") -> torch.device:
    """ "auto" is CUDA where there is one; "cuda:1" is the second GPU.

    Raises: ConfigError, naming the setting, if a GPU is asked for and absent, or the name is unknown.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", device):
        raise ConfigError(f"{setting}: got {device!r}; expected auto, cpu or cuda (cuda:1 for the second GPU)")
    if device != "cpu" and not torch.cuda.is_available():
        raise ConfigError(f"{setting}: got {device!r}, but this machine or this torch has no CUDA; use auto or cpu")
    found = torch.device(device)
    if found.index is not None and found.index >= (n := torch.cuda.device_count()):
        raise ConfigError(f"{setting}: got {device!r}, but this machine has {n} GPUs; give cuda:0 to cuda:{n - 1}")
    return found


def resolve_dtype(dtype: str) -> torch.dtype:
    """A torch dtype by name.

    Raises: ConfigError naming the known ones.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"dtype: got {dtype!r}; expected one of {', '.join(DTYPES)}")
    return DTYPES[dtype]
