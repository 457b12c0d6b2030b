"""Settings of a lens run."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from interp.activations.blocks import ShuffleConfig
from interp.config import Config, Seed
from interp.counts import TokenCount
from interp.datasets import DataConfig
from interp.lenses.continuations import N_LAST, Decoding
from interp.lenses.future import METHODS, Method, Mode
from interp.lenses.transplant import CONTEXTS
from interp.loop import Schedule
from interp.recording import Recording


class TunedLensConfig(Config):
    """Training of a tuned lens."""

    tokens: TokenCount = 500_000
    """Tokens to train on (300k, 4M are understood); shorter data is read again from its start."""
    batch_size: int = Field(1024, ge=1)
    """Tokens per step."""
    momentum: float = Field(0.9, ge=0.0, lt=1.0)
    """Nesterov momentum of the stochastic gradient descent; 0 is without any."""
    weight_decay: float = Field(1e-3, ge=0.0)
    """Pull of the corrections towards zero, where the tuned lens is the logit lens."""
    clip_norm: float = Field(1.0, ge=0.0)
    """Largest gradient norm; 0 switches clipping off."""
    schedule: Schedule = Schedule(lr=0.1, warmup_share=0.0, decay_share=1.0)
    """Learning rate over the run."""
    evaluation_tokens: TokenCount = 50_000
    """Held-out tokens on which tuned and logit lens are compared at the end."""

    @property
    def n_steps(self) -> int:
        return max(1, self.tokens // self.batch_size)


class FutureLensConfig(Config):
    """Training of a Future Lens."""

    distances: int = Field(5, ge=1, le=32)
    """Tokens ahead that are read: 5 are N = 0 (the next token) to N = 4."""
    examples: int = Field(10_000, ge=1)
    """Prefixes to train on, each with the model's own continuation. Their states are held in memory: examples x
    (layers + distances) x d_model x 4 bytes."""
    epochs: int = Field(1, ge=1)
    """Times that each of them is seen."""
    batch_size: int = Field(16, ge=1)
    """Prefixes per step. Learned prompts run each of them once for every layer, distance and mode, and keep it all for
    the backward pass: in a large model choose few layers (hooks) and few prefixes."""
    methods: tuple[Method, ...] = METHODS
    """Methods to fit, of linear_vocab, linear_hidden, fixed_prompt, learned_prompt."""
    modes: tuple[Mode, ...] = ("blind", "fed")
    """What learned prompts are trained for: blind (the state alone), fed (the true tokens in between behind it)."""
    decoding: Decoding = "greedy"
    """How the model goes on: greedy (the reference's way) or sampled at temperature 1."""
    shortest_prefix: int = Field(8, ge=N_LAST)
    """Fewest tokens of a prefix, BOS included."""
    prefixes_per_row: int = Field(4, ge=1)
    """Places at which each row of text is cut."""
    contexts: tuple[str, ...] = CONTEXTS
    """Texts whose last tokens, ten with BOS, are the fixed contexts that states are transplanted into."""
    weight_decay: float = Field(1e-5, ge=0.0)
    """AdamW's decay of soft prompts."""
    linear_lr_scale: float = Field(0.2, gt=0.0)
    """Learning rate of the linear maps, which begin at least squares, relative to that of the prompts."""
    clip_norm: float = Field(0.0, ge=0.0)
    """Largest gradient norm; 0 switches clipping off."""
    schedule: Schedule = Schedule(lr=5e-4, warmup_share=0.0, decay_share=0.0)
    """Learning rate of soft prompts over the run."""
    evaluation_examples: int = Field(1000, ge=1)
    """Held-out prefixes on which all arms are measured at the end."""
    counted_tokens: TokenCount = 1_000_000
    """Training tokens that the bigram and trigram arms count."""

    @property
    def n_steps(self) -> int:
        return max(1, self.examples // self.batch_size) * self.epochs


class LensConfig(Config):
    """A lens run."""

    lens: Literal["tuned", "future"] = "future"
    """tuned: an affine correction of each layer towards the model's own prediction. future: four ways to read the
    tokens ahead from one hidden state."""
    model: str = "embedded"
    """"embedded", a Hugging Face folder or a hub name of a causal language model."""
    dataset: str = "embedded"
    """"embedded", a .txt, .jsonl or .parquet file, a folder of them, or a hub name."""
    hooks: tuple[str, ...] = ()
    """Layers to read, such as blocks.2.hook_resid_post; unset: the embedding and every block's residual stream."""
    out: Path = Path("runs/lens")
    """Run folder to write."""
    tuned: TunedLensConfig = TunedLensConfig()
    future: FutureLensConfig = FutureLensConfig()
    data: DataConfig = DataConfig()
    shuffle: ShuffleConfig = ShuffleConfig(block_tokens=32_768)
    seed: Seed = 0
    """Seed of initial prompts, prefixes, sampled continuations, shuffling and bootstrap intervals."""
    device: str = "auto"
    """auto, cpu or cuda (cuda:1 for the second GPU)."""
    dtype: str = "float32"
    """Number format of the model: float32, bfloat16 or float16."""
    recording: Recording = Recording(checkpoint_every=100)

    @model_validator(mode="after")
    def _measures_on_other_text(self) -> "LensConfig":
        if self.data.heldout_share == 0:
            raise ValueError("data.heldout_share: got 0; a lens is measured on held-out text; give a share above 0")
        return self

    @property
    def n_steps(self) -> int:
        return self.tuned.n_steps if self.lens == "tuned" else self.future.n_steps
