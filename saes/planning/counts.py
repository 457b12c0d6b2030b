"""What a training run does, counted from its config: tokens, steps, operations, bytes. Nothing here is measured.

Axes: d width of the activations, f features, k active features, b tokens of a step, g prefixes.
"""

from dataclasses import dataclass

from saes.config import CODEBOOK
from saes.training import TrainConfig

STATE_BYTES = 12
"""Bytes of a checkpoint per parameter: weight and two Adam moments."""
ADAM_BYTES = 28
"""Bytes that Adam moves per parameter: weight, gradient and moments read, weight and moments written."""
UPKEEP_BYTES = 26
"""Bytes per parameter of gradient norm, clipping, projection and renormalised rows."""
INDEX_BYTES = 24
"""Bytes per token in the shuffle buffer beside its activations: token, document, position."""


@dataclass(frozen=True, slots=True)
class Counts:
    """One run in numbers.

    `d_in` is the width of what is read, `other_width` of what is reconstructed where it is another, `forward_flops`
    the operations per token up to the deepest hook. Penalised SAEs are counted at the L0 they are steered to; their
    first steps are denser.
    """

    config: TrainConfig
    d_in: int
    forward_flops: float
    model_bytes: int
    act_bytes: int
    other_width: int | None = None

    @property
    def d_out(self) -> int:
        return self.d_in if self.other_width is None else self.other_width

    @property
    def n_parameters(self) -> int:
        f = self.config.sae.d_sae
        skip = self.d_in * self.d_out if self.config.sae.skip else 0
        more = {"jumprelu": f, "gated": 2 * f}.get(self.config.sae.architecture, 0)
        return (self.d_in + self.d_out) * f + f + self.d_out + skip + more

    @property
    def read_width(self) -> int:
        """Columns of a harvested token: a transcoder's input and output, else one and the same."""
        return self.d_in + (self.other_width or 0)

    @property
    def k(self) -> float:
        """Active features per token."""
        return self.config.sae.wanted_l0

    @property
    def block_tokens(self) -> int:
        """Tokens that the shuffle buffer holds."""
        batch = self.config.batch_size
        return max(1, self.config.shuffle.block_tokens // batch) * batch

    @property
    def harvested_tokens(self) -> int:
        """Tokens that the model reads: whole buffers, though the last may be drained in part only."""
        trained = self.config.n_steps * self.config.batch_size
        return -(-trained // self.block_tokens) * self.block_tokens

    @property
    def n_checkpoints(self) -> int:
        steps, every = self.config.n_steps, self.config.recording.checkpoint_every
        return steps // every + (1 if steps % every else 0)

    @property
    def n_prefixes(self) -> int:
        return len(self.config.sae.prefix_widths())

    def step_flops(self) -> float:
        """Operations of a step: the encoder's product, eight for each entry of the code and each of its numbers
        (decoding, gradients of values, decoder and encoder; four more for the second decoding of a gated SAE), and some
        twelve per parameter for Adam."""
        b, d, sae = self.config.batch_size, (self.d_in + self.d_out) / 2, self.config.sae
        per_entry = 12 if sae.architecture == "gated" else 8
        return float(2 * self.d_in * sae.d_sae * b + per_entry * self.k * d * b + 12 * self.n_parameters)

    def step_bytes(self) -> float:
        """Bytes that a step moves outside its products: selection, gathered rows, prefixes, Adam and upkeep."""
        b, d, sae = self.config.batch_size, (self.d_in + self.d_out) / 2, self.config.sae
        entries = 3 * 4 * b * sae.d_sae + 4 * 4 * self.k * b * d
        return float(entries + 4 * 4 * b * d * self.n_prefixes + (ADAM_BYTES + UPKEEP_BYTES) * self.n_parameters)

    @property
    def harvest_flops(self) -> float:
        return self.forward_flops * self.harvested_tokens

    @property
    def training_flops(self) -> float:
        return self.step_flops() * self.config.n_steps

    @property
    def block_bytes(self) -> int:
        """The shuffle buffer and its permutation."""
        return self.block_tokens * (self.read_width * self.act_bytes + INDEX_BYTES + 8)

    def ahead_bytes(self, n_ahead: int) -> int:
        """Batches of activations on the SAE's device; pinned memory of the host holds as much.

        Those made ahead, one in the thread's hand that waits for room, and one that is being used.
        """
        return (n_ahead + 2) * self.config.data.batch_tokens * (self.read_width * self.act_bytes + INDEX_BYTES)

    @property
    def trained_bytes(self) -> int:
        """Weights, gradients and Adam's moments; free decoder norms are applied in copies that have gradients too."""
        sae, decoder = self.config.sae, self.d_out * self.config.sae.d_sae
        if sae.architecture == CODEBOOK and sae.codebook_variant != "latent":
            # Codes alone are trained; where they point is kept beside them.
            return 16 * decoder + 4 * (self.n_parameters - decoder)
        per_parameter = 16 if sae.decoder_norm == "unit" else 24
        return per_parameter * self.n_parameters

    @property
    def step_workspace_bytes(self) -> int:
        """What a step allocates beside weights: chunks and candidates, codes in both orders, residuals of prefixes."""
        b, d, sae = self.config.batch_size, max(self.d_in, self.d_out), self.config.sae
        sparse = 200 * self.k * b + 3 * 4 * 128 * sae.d_sae
        # A penalised SAE begins where half of its features fire.
        first = 6 * 4 * b * sae.d_sae if sae.architecture in ("standard", "gated") else 0
        return int(max(sparse, first)) + 4 * b * d * (self.n_prefixes + 5)

    @property
    def harvest_workspace_bytes(self) -> int:
        """What a forward pass allocates: a few copies of the stream, the MLP's widest layer, the captured hook."""
        return 4 * self.config.data.batch_tokens * 24 * self.d_in

    @property
    def checkpoint_bytes(self) -> int:
        """One checkpoint on disk."""
        return STATE_BYTES * self.n_parameters + 8 * self.config.sae.d_sae + 16_384

    @property
    def sae_bytes(self) -> int:
        """The saved SAE on disk; as a JumpReLU it has a threshold for each feature."""
        sae = self.config.sae
        thresholds = sae.d_sae if sae.architecture in ("batch_topk", "matryoshka") else 0
        return 4 * (self.n_parameters + thresholds) + 3_000

    @property
    def log_bytes(self) -> int:
        """metrics.jsonl."""
        lines = self.config.n_steps // self.config.recording.log_every + 1
        return lines * (330 + 45 * self.n_prefixes)

    @property
    def kept_bytes(self) -> int:
        """Bytes on disk when the run is done."""
        kept = min(self.config.recording.keep_checkpoints, self.n_checkpoints)
        return kept * self.checkpoint_bytes + self.sae_bytes + self.log_bytes

    @property
    def peak_disk_bytes(self) -> int:
        """Bytes on disk at worst: a new checkpoint is whole before the oldest goes."""
        held = min(self.config.recording.keep_checkpoints + 1, self.n_checkpoints)
        return held * self.checkpoint_bytes + self.sae_bytes + self.log_bytes
