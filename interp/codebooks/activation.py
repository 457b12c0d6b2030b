"""Codes put in at chosen tokens, while a model reads or writes.

Axes: b rows, t position, g groups, k active codes, m codes put in.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from interp.codebooks.insertion import Choose, Codebooks
from interp.codebooks.names import CodeName
from interp.errors import ConfigError

Where = Literal["all", "prompt", "generated", "last"]
"""Tokens at which codes are put in: every one, those of the prompt, those behind it, or the prompt's last one."""


class Activation:
    """Edits that put codes in at chosen tokens, for `Insertion(choose=…)`; one for each text that is written.

    A code that is not active already takes the place of the least similar one, so that k stay active.
    """

    def __init__(self, codes: Sequence[CodeName], codebooks: Codebooks, where: Where | Sequence[int], n_prompt: int):
        """Raises: ConfigError for more codes of one codebook than are active at once."""
        self._where, self._n_prompt = where, n_prompt
        self._by_hook: dict[str, dict[int, list[int]]] = {}
        for name in dict.fromkeys(codes):
            self._by_hook.setdefault(name.hook, {}).setdefault(name.group, []).append(name.code)
        for hook, groups in self._by_hook.items():
            for wanted in groups.values():
                if len(wanted) > codebooks[hook].k:
                    raise ConfigError(
                        f"got {len(wanted)} codes of one codebook at {hook}, of which {codebooks[hook].k} are active "
                        "at once; give fewer"
                    )
        self._seen = dict.fromkeys(self._by_hook, 0)

    def edits(self) -> dict[str, Choose]:
        """By hook."""
        return {hook: self._edit(hook) for hook in self._by_hook}

    def _edit(self, hook: str) -> Choose:
        def choose(ids: Int[Tensor, "b t g k"]) -> Int[Tensor, "b t g k"]:
            first = self._seen[hook]
            self._seen[hook] += ids.shape[1]
            here = self._places(torch.arange(first, first + ids.shape[1])).to(ids.device)
            changed = ids.clone()
            for group, wanted in self._by_hook[hook].items():
                put = _put_in(ids[:, :, group], torch.tensor(wanted, device=ids.device))
                changed[:, :, group] = torch.where(here[:, None], put, ids[:, :, group])
            return changed

        return choose

    def _places(self, positions: Int[Tensor, " t"]) -> Tensor:
        n = self._n_prompt
        if not isinstance(self._where, str):
            return torch.isin(positions, torch.tensor(list(self._where)))
        if self._where == "all":
            return torch.ones_like(positions, dtype=torch.bool)
        if self._where == "last":
            return positions == n - 1
        return positions < n if self._where == "prompt" else positions >= n


def _put_in(ids: Int[Tensor, "b t k"], wanted: Int[Tensor, " m"]) -> Int[Tensor, "b t k"]:
    """The wanted codes first, then the others in their order, as many as fit."""
    k = ids.shape[-1]
    own = torch.isin(ids, wanted)
    # Those to keep come first, most similar first; a wanted one must not stand twice.
    order = own.to(torch.int8).argsort(dim=-1, stable=True)
    kept = ids.gather(-1, order)[..., : k - len(wanted)]
    return torch.cat([wanted.expand(*ids.shape[:-1], -1), kept], dim=-1)
