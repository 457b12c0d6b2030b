"""What a training run is told."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from interp.activations.blocks import ShuffleConfig
from interp.activations.harvest import HarvestConfig
from interp.config import Config, Seed
from interp.counts import TokenCount
from interp.datasets import DataConfig
from interp.loop import Schedule
from interp.recording import Recording
from saes.config import CODEBOOK, SAEConfig

OTHER = "other:"
"""How hooks of the second model begin."""


class TrainConfig(Config):
    """A training run."""

    model: str = "embedded"
    """"embedded", a Hugging Face folder or a hub name."""
    dataset: str = "embedded"
    """"embedded", a .txt, .jsonl or .parquet file, a folder of them, or a hub name."""
    hook: str
    """Where to look: a TransformerLens name such as blocks.2.hook_resid_post; `interp models M --hooks` lists them."""
    hook_out: str | None = None
    """Transcoder: reconstruct what stands at this hook from what stands at `hook`, as blocks.2.hook_mlp_out from
    blocks.2.ln2.hook_out."""
    more_hooks: tuple[str, ...] = ()
    """Crosscoder: one dictionary reads and reconstructs `hook` and these together."""
    other_model: str | None = None
    """Crosscoder of two models: a second one with the same tokenizer, such as a finetuned copy, on the same tokens; its
    hooks are named other:blocks.2.hook_resid_post in more_hooks."""
    tokens: TokenCount = 2_000_000
    """Tokens to train on (300k, 4M, 1B are understood); shorter data is read again from its start."""
    out: Path = Path("runs/sae")
    """Run folder to write."""
    activations: Path | None = None
    """Folder written by `interp collect`: train from disk instead of running the model."""
    warm_start: Path | None = None
    """Run folder or SAE folder whose weights training begins with; of the same widths and kind."""
    seed: Seed = 0
    """Seed of initial weights and, unless shuffle.seed says otherwise, of shuffling."""
    device: str = "auto"
    """auto, cpu or cuda (cuda:1 for the second GPU): where the SAE and the shuffle buffer are."""
    model_device: str | None = None
    """Device of the language model, if it is another: the model then runs ahead while the SAE is trained."""
    dtype: str = "float32"
    """Number format of the model's forward pass: float32, bfloat16 or float16. The SAE is always float32."""
    batch_size: int = Field(2048, ge=1)
    """Tokens per step."""
    clip_norm: float = Field(1.0, ge=0)
    """Largest gradient norm; 0 switches clipping off."""
    rescale: bool = True
    """Scale activations so that the mean norm about their centre is sqrt(width); folded back when the SAE is saved."""
    freeze_decoder: bool = False
    """Keep the decoder as it was drawn at random: a null arm that a good SAE must beat."""
    randomise_model: Seed | None = None
    """Shuffle the model's weights with this seed before harvesting: a null arm that a good SAE must beat."""
    optimiser: Literal["adam", "muon"] = "adam"
    """adam, fused; or muon for the two weight matrices and adam for the rest."""
    sae: SAEConfig = SAEConfig()
    data: DataConfig = DataConfig()
    harvest: HarvestConfig = HarvestConfig()
    shuffle: ShuffleConfig = ShuffleConfig()
    schedule: Schedule = Schedule()
    recording: Recording = Recording()

    @model_validator(mode="after")
    def _enough(self) -> "TrainConfig":
        if self.tokens < self.batch_size:
            raise ValueError(f"tokens: got {self.tokens}; expected at least one batch of {self.batch_size}")
        if self.hook_out is not None and self.more_hooks:
            raise ValueError("hook_out: a transcoder has one hook to read; leave more_hooks out")
        if len(set(self.hooks_in)) < len(self.hooks_in):
            raise ValueError(f"more_hooks: got {list(self.hooks_in)}; name each hook once")
        if self.other_model is not None and not any(name.startswith(OTHER) for name in self.all_hooks):
            raise ValueError(
                f"other_model: got {self.other_model} and no hook of it; name one in more_hooks as {OTHER}…"
            )
        if self.activations is not None and (self.model_device is not None or self.harvest.compile):
            raise ValueError("activations: no model runs; leave model_device and harvest.compile out")
        if self.hook_out is None and self.sae.skip:
            raise ValueError("sae.skip: a skip connection belongs to a transcoder; give hook_out too")
        if self.sae.architecture == CODEBOOK and len(self.all_hooks) > 1:
            raise ValueError("sae.architecture: got codebook for several hooks; leave hook_out and more_hooks out")
        if self.sae.architecture == CODEBOOK and (self.freeze_decoder or self.warm_start is not None):
            raise ValueError("sae.architecture: a codebook is all decoder; leave freeze_decoder and warm_start out")
        if self.hook_out == self.hook:
            raise ValueError(f"hook_out: got {self.hook}, which is what is read; leave it out for an autoencoder")
        if self.freeze_decoder and self.warm_start is not None:
            raise ValueError("freeze_decoder: a decoder from warm_start was not drawn at random; leave one of them out")
        if self.hook_out is not None and self.sae.architecture == "gated":
            raise ValueError("sae.architecture: got gated for a transcoder; choose another, such as jumprelu")
        return self

    @property
    def n_steps(self) -> int:
        return self.tokens // self.batch_size

    @property
    def hooks_in(self) -> tuple[str, ...]:
        """What the dictionary reads."""
        return (self.hook, *self.more_hooks)

    @property
    def hooks_out(self) -> tuple[str, ...]:
        """What it reconstructs."""
        return self.hooks_in if self.hook_out is None else (self.hook_out,)

    @property
    def all_hooks(self) -> tuple[str, ...]:
        """What is harvested, each once."""
        return tuple(dict.fromkeys((*self.hooks_in, *self.hooks_out)))

    @property
    def shuffle_seed(self) -> int:
        return self.seed if self.shuffle.seed is None else self.shuffle.seed
