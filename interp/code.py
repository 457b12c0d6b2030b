"""What activations and sparse codes look like to every part of the workbench.

Axes: b tokens, d width of the activations, f features (d_sae), n active entries over all tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import UnknownHookError
from interp.several import check_several


@dataclass(frozen=True, slots=True)
class ActivationBatch:
    """Activations of the same tokens at one or several hooks.

    Shapes: acts[hook] (b, d_hook); token_ids, document, position (b,).
    Units: document counts from 0 in data-set order; position counts tokens from the start of the document's row.
    """

    acts: Mapping[str, Float[Tensor, "b _"]]
    token_ids: Int[Tensor, " b"]
    document: Int[Tensor, " b"]
    position: Int[Tensor, " b"]

    def __len__(self) -> int:
        return self.token_ids.shape[0]

    def stacked(self, hooks: Sequence[str]) -> Float[Tensor, "b _"]:
        """Activations of `hooks` side by side, in that order: what a FeatureDictionary encodes.

        Raises: UnknownHookError if a hook was not harvested; ConfigError for a single string.
        """
        check_several("hooks", hooks)
        missing = [hook for hook in hooks if hook not in self.acts]
        if missing:
            raise UnknownHookError(
                f"hook {missing[0]!r} is not in this batch, which holds {', '.join(self.acts)}; harvest it too"
            )
        if len(hooks) == 1:
            return self.acts[hooks[0]]
        return torch.cat([self.acts[hook] for hook in hooks], dim=1)

    def take(self, rows: Int[Tensor, " _"] | Bool[Tensor, " b"] | slice) -> "ActivationBatch":
        """The chosen tokens, at all hooks."""
        acts = {hook: x[rows] for hook, x in self.acts.items()}
        return ActivationBatch(acts, self.token_ids[rows], self.document[rows], self.position[rows])


@dataclass(frozen=True, slots=True)
class Code:
    """Which features fired for each token, and how strongly.

    Shapes: values, features (n,); row_offsets (b + 1,), so token i owns entries row_offsets[i]:row_offsets[i + 1].
    Entries that are zero may be present (a TopK row with fewer than k positive values); features within a row differ.
    """

    values: Float[Tensor, " n"]
    features: Int[Tensor, " n"]
    row_offsets: Int[Tensor, " b_plus_1"]
    d_sae: int

    @property
    def n_rows(self) -> int:
        return self.row_offsets.shape[0] - 1

    def rows(self) -> Int[Tensor, " n"]:
        """The token that each entry belongs to."""
        counts = self.row_offsets.diff()
        index = torch.arange(self.n_rows, device=counts.device)
        return torch.repeat_interleave(index, counts, output_size=self.values.shape[0])

    def dense(self) -> Float[Tensor, "b f"]:
        """The same code as a matrix, zero where nothing fired."""
        out = self.values.new_zeros(self.n_rows, self.d_sae)
        return out.index_put((self.rows(), self.features.long()), self.values)

    def keep(self, chosen: Bool[Tensor, " n"]) -> "Code":
        """The same code with the chosen entries alone."""
        # One question to the device; a mask for values and one for features would be two.
        index = chosen.nonzero()[:, 0]
        before = offsets_of(chosen.long())[self.row_offsets]
        return replace(self, values=self.values[index], features=self.features[index], row_offsets=before)

    def active(self) -> "Code":
        """The same code without entries whose value is zero."""
        return self.keep(self.values > 0)

    def l0(self) -> float:
        """Mean number of active features per token."""
        return int((self.values > 0).sum()) / max(self.n_rows, 1)

    @staticmethod
    def from_dense(acts: Float[Tensor, "b f"]) -> "Code":
        """The positive entries of a matrix, row by row, features ascending.

        Negative entries are dropped like zeros, since features fire positively or not at all; a change of a code, which
        may be negative, is kept whole by `interp.feature_edits.any_code`.
        """
        rows, features = (acts > 0).nonzero(as_tuple=True)
        counts = torch.bincount(rows, minlength=acts.shape[0])
        return Code(acts[rows, features], features, offsets_of(counts), acts.shape[1])


def offsets_of(counts: Int[Tensor, " b"]) -> Int[Tensor, " b_plus_1"]:
    """Row offsets from entries per row: a running sum that starts at zero."""
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


@runtime_checkable
class FeatureDictionary(Protocol):
    """What SAEs, codebooks, probe sets and plain neurons look like to ablation, probing, lenses and dashboards.

    `encode` takes `ActivationBatch.stacked(hooks_in)`; `decode` gives the same layout for `hooks_out`.
    `decode(code, prefix=m)` uses only the first m features. `directions(ids)` are the rows that a unit of each
    feature adds to the output.
    """

    @property
    def hooks_in(self) -> tuple[str, ...]: ...
    @property
    def hooks_out(self) -> tuple[str, ...]: ...
    @property
    def d_sae(self) -> int: ...
    def encode(self, x: Float[Tensor, "b d"]) -> Code: ...
    def decode(self, code: Code, *, prefix: int | None = None) -> Float[Tensor, "b d"]: ...
    def directions(self, features: Int[Tensor, " m"]) -> Float[Tensor, "m d"]: ...
