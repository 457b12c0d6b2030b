"""Settings of a pretraining run."""

from pathlib import Path

from pydantic import Field, model_validator

from interp.config import Config, Seed
from interp.counts import TokenCount
from interp.loop import Schedule
from interp.recording import Recording


class ArchitectureConfig(Config):
    """A Llama: rotary positions, RMSNorm, gated MLP, embeddings tied to the unembedding."""

    n_layers: int = Field(4, ge=1)
    """Transformer blocks."""
    d_model: int = Field(192, ge=8)
    """Width of the residual stream."""
    n_heads: int = Field(6, ge=1)
    """Attention heads; must divide d_model."""
    d_mlp: int = Field(512, ge=8)
    """Width of the gated MLP."""
    context_size: int = Field(256, ge=8)
    """Longest row of tokens the model reads."""
    vocab_size: int = Field(4096, ge=260)
    """Tokens of the byte-level BPE, the 256 bytes and the special tokens included."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "ArchitectureConfig":
        if self.d_model % (2 * self.n_heads):
            raise ValueError(f"d_model {self.d_model} must be a multiple of twice n_heads {self.n_heads}")
        return self


class PretrainConfig(Config):
    """A language model trained from scratch on one data set."""

    dataset: str = "$INTERP_DATA/corpora/tinystories/tinystories.jsonl"
    """File, folder or hub name of the text; environment variables are filled in."""
    text_field: str = "text"
    """Field or column that holds the text (jsonl, parquet, hub)."""
    data_note: str = ""
    """What the model card says of the text: origin and licence."""
    heldout_share: float = Field(0.05, gt=0.0, lt=1.0)
    """Share of the documents, chosen by the hash of their text, never trained on."""
    architecture: ArchitectureConfig = ArchitectureConfig()
    """Shape of the model."""
    tokens: TokenCount = 14_000_000
    """Tokens to train on (300k, 4M are understood); documents come round again, cut and ordered anew."""
    out: Path = Path("runs/pretrain")
    """Run folder to write."""
    batch_tokens: int = Field(4096, ge=8)
    """Tokens per step."""
    schedule: Schedule = Schedule(lr=0.01, warmup_share=0.0, decay_share=0.4)
    """Learning rate of the weight matrices (Muon)."""
    adam_lr_scale: float = Field(0.3, gt=0.0)
    """Learning rate of embeddings and norms (Adam), relative to that of the matrices."""
    weight_decay: float = Field(0.2, ge=0.0)
    """Decoupled decay of the weight matrices per unit of learning rate."""
    clip_norm: float = Field(1.0, ge=0.0)
    """Largest gradient norm; 0 leaves gradients as they are."""
    evaluate_every: int = Field(200, ge=1)
    """Steps between two looks at bits per byte on held-out and on training documents."""
    evaluate_documents: int = Field(150, ge=1)
    """Documents of each kind in such a look; the final evaluation takes all held-out ones."""
    peer: str | None = None
    """Folder of another model to score on the same held-out text; environment variables are filled in."""
    sample_documents: int = Field(1000, ge=10)
    """Documents sampled from the finished model for its evaluation; the card shows the first ten."""
    corpus_documents: int = Field(0, ge=0)
    """Documents that the finished model writes into corpus.jsonl.gz."""
    seed: Seed = 0
    """Seed of initial weights, of order and cuts of the documents, and of what the model writes."""
    device: str = "auto"
    """auto, cpu or cuda (cuda:1 for the second GPU)."""
    recording: Recording = Recording()

    @model_validator(mode="after")
    def _looks_are_logged(self) -> "PretrainConfig":
        if self.tokens < self.batch_tokens:
            raise ValueError(f"tokens: got {self.tokens}; expected at least one batch of {self.batch_tokens}")
        if self.evaluate_every % self.recording.log_every:
            raise ValueError(
                f"evaluate_every: got {self.evaluate_every}; expected a multiple of recording.log_every "
                f"({self.recording.log_every})"
            )
        return self

    @property
    def n_steps(self) -> int:
        return self.tokens // self.batch_tokens

    def lr(self, step: int) -> float:
        """Learning rate of a step counted from 0."""
        return self.schedule.at(step, self.n_steps)
