"""Programs compiled into transformers, whose every residual dimension has a known meaning, as models of ours.

They are bidirectional, with ReLU and without norms; no class of Hugging Face fits them, so here is one. As with other
encoders, what they give is the last residual stream.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from interp.families import FAMILIES, Family
from interp.models import Model, wrap_model

PROGRAMS = ("frac_prevs_x", "hist", "length", "reverse", "shuffle_dyck1", "sort_unique")
FAMILY = Family(
    embed="embed",
    pos_embed="pos_embed",
    blocks="blocks",
    ln_final=None,
    ln1="ln1",
    qkv=("attn.q", "attn.k", "attn.v"),
    z="attn.out",
    attn_out="attn",
    ln2="ln2",
    mlp_pre="mlp.pre",
    mlp_post="mlp.post",
    mlp_out="mlp",
    causal=False,
)


@dataclass(frozen=True)
class Program:
    """A compiled program, its model, the meaning of its dimensions, and what it was told to give."""

    name: str
    model: Model
    labels: list[str]
    weights: dict[str, Tensor]
    acts: dict[str, Tensor]
    ids: list[list[int]]
    words: dict[str, int]

    def dimensions(self, variable: str) -> list[int]:
        """Dimensions of a variable: one that is a number, or one for each of its values."""
        return [i for i, label in enumerate(self.labels) if label == variable or label.startswith(f"{variable}:")]


@contextmanager
def compiled(folder: Path, name: str) -> Iterator[Program]:
    """Read a program; its family is known inside the block."""
    told = json.loads((folder / f"{name}.json").read_text())
    weights = load_file(folder / f"{name}.safetensors")
    known: dict[str, Family] = FAMILIES  # type: ignore[assignment]
    known["compiled"] = FAMILY
    try:
        model = wrap_model(_Compiled(_config(told, weights), weights), _tokenizer(told["encoding_map"]), name=name)
        acts = load_file(folder / f"{name}.acts.safetensors")
        ids = [example["ids"] for example in told["examples"]]
        yield Program(name, model, told["residual_labels"], weights, acts, ids, told["encoding_map"])
    finally:
        del known["compiled"]


class _Config(PreTrainedConfig):
    model_type = "compiled"


def _config(told: dict, weights: dict[str, Tensor]) -> _Config:
    d_vocab, d_model = weights["token_embed/embeddings"].shape
    sizes = told["config"]
    return _Config(
        vocab_size=d_vocab,
        hidden_size=d_model,
        num_hidden_layers=sizes["num_layers"],
        num_attention_heads=sizes["num_heads"],
        head_dim=sizes["key_size"],
        intermediate_size=sizes["mlp_hidden_size"],
        max_position_embeddings=weights["pos_embed/embeddings"].shape[0],
        pad_token_id=None,
    )


def _linear(weights: dict[str, Tensor], name: str) -> nn.Linear:
    weight = weights[f"{name}/w"]
    layer = nn.Linear(*weight.shape)
    layer.weight.data, layer.bias.data = weight.t().contiguous(), weights[f"{name}/b"]
    return layer


class _Attention(nn.Module):
    def __init__(self, weights: dict[str, Tensor], name: str, n_heads: int) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (
            _linear(weights, f"{name}/{part}") for part in ("query", "key", "value", "linear")
        )
        self.n_heads = n_heads

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        q, k, v = (part(x).unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for part in (self.q, self.k, self.v))
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        scores = scores.masked_fill(~real[:, None, None], -1e30)
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(-2))


class _MLP(nn.Module):
    def __init__(self, weights: dict[str, Tensor], name: str) -> None:
        super().__init__()
        self.pre, self.post = (_linear(weights, f"{name}/{part}") for part in ("linear_1", "linear_2"))

    def forward(self, x: Tensor) -> Tensor:
        return self.post(self.pre(x).relu())


class _Block(nn.Module):
    def __init__(self, weights: dict[str, Tensor], name: str, n_heads: int) -> None:
        super().__init__()
        self.ln1, self.ln2 = nn.Identity(), nn.Identity()
        self.attn = _Attention(weights, f"{name}/attn", n_heads)
        self.mlp = _MLP(weights, f"{name}/mlp")

    def forward(self, hidden_states: Tensor, real: Tensor) -> Tensor:
        x = hidden_states + self.attn(self.ln1(hidden_states), real)
        return x + self.mlp(self.ln2(x))


class _Compiled(PreTrainedModel):
    config_class = _Config

    def __init__(self, config: _Config, weights: dict[str, Tensor]) -> None:
        super().__init__(config)
        self.embed = nn.Embedding.from_pretrained(weights["token_embed/embeddings"])
        self.pos_embed = nn.Embedding.from_pretrained(weights["pos_embed/embeddings"])
        names = [f"transformer/layer_{layer}" for layer in range(config.num_hidden_layers)]
        self.blocks = nn.ModuleList([_Block(weights, name, config.num_attention_heads) for name in names])
        self.requires_grad_(False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> SimpleNamespace:
        real = torch.ones_like(input_ids).bool() if attention_mask is None else attention_mask.bool()
        x = self.embed(input_ids) + self.pos_embed(torch.arange(input_ids.shape[1]))
        for block in self.blocks:
            x = block(x, real)
        return SimpleNamespace(last_hidden_state=x)


def _tokenizer(words: dict[str, int]) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel(words, unk_token="BOS")), unk_token="BOS")
