"""Sizes of language models that are planned for without being there, typed in from their published config.json."""

import re
from dataclasses import dataclass

from interp.errors import UnknownHookError


@dataclass(frozen=True, slots=True)
class ModelSizes:
    """A decoder's sizes. `n_mlp_matrices` is 3 where the MLP is gated; `tied`: the unembedding is the embedding.

    `block_weight_bytes` is what a block's weight takes where it is stored quantised, its scales included.
    Biases and norms are left out: less than a thousandth of the parameters.
    """

    name: str
    d_model: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_mlp: int
    d_vocab: int
    n_mlp_matrices: int = 3
    tied: bool = False
    block_weight_bytes: float | None = None

    @property
    def block_parameters(self) -> int:
        """Weights of one block."""
        attention = self.d_model * self.d_head * (2 * self.n_heads + 2 * self.n_kv_heads)
        return attention + self.n_mlp_matrices * self.d_model * self.d_mlp

    @property
    def n_parameters(self) -> int:
        """All weights."""
        return self.n_layers * self.block_parameters + (1 if self.tied else 2) * self.d_vocab * self.d_model

    def weight_bytes(self, bytes_each: int) -> int:
        """What the weights take in memory, in a format of so many bytes unless they are quantised."""
        blocks = self.n_layers * self.block_parameters
        of_block = bytes_each if self.block_weight_bytes is None else self.block_weight_bytes
        return round(blocks * of_block) + (self.n_parameters - blocks) * bytes_each

    def forward_flops(self, hook: str, context_size: int) -> float:
        """Operations per token of a forward pass through the block of `hook`, its row as long as `context_size`.

        Raises: UnknownHookError for a hook of no block of the model.
        """
        attention = 4 * context_size * self.n_heads * self.d_head
        return float(self._blocks(hook) * (2 * self.block_parameters + attention))

    def width(self, hook: str) -> int:
        """Width of what stands at a hook of the residual stream, or of what a layer adds to it.

        Raises: UnknownHookError for any other.
        """
        self._blocks(hook)
        inside = re.search(r"\.(hook_resid_(pre|mid|post)|hook_(attn|mlp)_out|ln[12]\.hook_out)$", hook)
        if inside is None:
            raise UnknownHookError(f"hook {hook!r}: {self.name} is planned from typed sizes, which tell d_model alone")
        return self.d_model

    def _blocks(self, hook: str) -> int:
        found = re.match(r"blocks\.(\d+)\.", hook)
        if found is None or int(found[1]) >= self.n_layers:
            raise UnknownHookError(f"no hook {hook!r} in {self.name}; its blocks are blocks.0 to {self.n_layers - 1}")
        return int(found[1]) + 1


_LLAMA_70B = (8192, 80, 64, 8, 128, 28_672, 128_256)

TYPED = {
    sizes.name: sizes
    for sizes in (
        ModelSizes("gpt2", 768, 12, 12, 12, 64, 3072, 50_257, n_mlp_matrices=2, tied=True),
        ModelSizes("google/gemma-2-2b", 2304, 26, 8, 4, 256, 9216, 256_000, tied=True),
        ModelSizes("meta-llama/Llama-3.1-70B", *_LLAMA_70B),
        # Four bits a weight, and a 16-bit scale with a 4-bit zero for 128 of them.
        ModelSizes(
            "hugging-quants/Meta-Llama-3.1-70B-Instruct-AWQ-INT4", *_LLAMA_70B, block_weight_bytes=0.5 + 2.5 / 128
        ),
    )
}
"""By the name that a config gives them. Source: their config.json on the hub, typed by hand."""
