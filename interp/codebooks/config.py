"""Settings of a codebook run."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from interp.codebooks.insertion import Site
from interp.codebooks.quantise import Combine
from interp.config import Config, Seed
from interp.counts import TokenCount
from interp.datasets import DataConfig
from interp.loop import Schedule
from interp.recording import Recording


class CodebookConfig(Config):
    """A model finetuned with codebooks inside, or, with none, the same finetune to hold it against."""

    model: str = "embedded"
    """"embedded", a Hugging Face folder or a hub name of a causal language model."""
    from_scratch: bool = False
    """Begin from random weights of the same architecture."""
    dataset: str = "embedded"
    """"embedded", a .txt, .jsonl or .parquet file, a folder of them, or a hub name."""
    at: tuple[Site, ...] = ("attn",)
    """Where codebooks stand: attn (one for each head, before W_O), mlp (before the addition to the stream), resid (the
    stream after a block). Empty: nowhere, a plain finetune."""
    layers: tuple[int, ...] = ()
    """Blocks that get them; unset: all."""
    n_codes: int = Field(1000, ge=1)
    """Codes in each codebook."""
    k: int = Field(8, ge=1)
    """Codes active at once in each codebook."""
    combine: Combine = "sum"
    """sum of the active codes (the paper), or their mean (its code); equal where k is 1."""
    initial: Literal["normal", "kmeans", "kmeans_scaled"] = "normal"
    """Codes to begin with: drawn from N(0, 1), or centres of clusters of the model's normalised activations; scaled:
    at the scale of the activations, so that heads, which write little, need not learn it again. `reconstruction` then
    weighs distances at that scale: where activations are large (MLPs) it outweighs the loss of the next token."""
    initial_tokens: TokenCount = 20_000
    """Tokens that are clustered."""
    reconstruction: float = Field(1.0, ge=0.0)
    """Weight of the codes' mean squared distance from what they stand for, beside the loss of the next token."""
    replace_dead_every: int = Field(0, ge=0)
    """Steps after which codes without a hit are put at activations; 0: never."""
    tokens: TokenCount = 1_000_000
    """Tokens to train on (300k, 4M are understood); shorter data is read again from its start."""
    schedule: Schedule = Schedule(lr=5e-4, warmup_share=0.0, decay_share=0.0)
    """Learning rate of the whole model and of the codes."""
    optimiser: Literal["adamw", "muon"] = "adamw"
    """adamw without decay for everything (the paper), or muon for the matrices of the blocks and Adam, at 0.3 of the
    learning rate, for the rest and the codes: fewer steps, for models from scratch."""
    clip_norm: float = Field(1.0, ge=0.0)
    """Largest gradient norm; 0 switches clipping off."""
    evaluation_tokens: TokenCount = 50_000
    """Held-out tokens on which loss and accuracy are measured at the end."""
    data: DataConfig = DataConfig(batch_tokens=2048)
    out: Path = Path("runs/codebook")
    """Run folder to write."""
    seed: Seed = 0
    """Seed of codes, of weights from scratch and of what replaces dead codes."""
    device: str = "auto"
    """auto, cpu or cuda (cuda:1 for the second GPU)."""
    recording: Recording = Recording()

    @model_validator(mode="after")
    def _fits(self) -> "CodebookConfig":
        if self.k > self.n_codes:
            raise ValueError(f"k: got {self.k} of {self.n_codes} codes; expected at most as many as there are")
        return self

    @property
    def n_steps(self) -> int:
        return max(1, self.tokens // self.data.batch_tokens)
