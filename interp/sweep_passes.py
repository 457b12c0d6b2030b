"""Many interventions in few forward passes: each block of rows holds all prompts with one component replaced.

Passes begin at the block of the components that they replace, with what stood there; of causal models, at the first
token that is replaced, and above its block where one token alone is. They end in logits at each prompt's last token.

Axes: n components, p prompts, t position, w width of a part.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.component_values import Dictionaries, Values, hooks_of, standing
from interp.components import Component
from interp.forward import Stem, last_outputs
from interp.hooks import Edit, capture, edit
from interp.models import Model
from interp.outcomes import Outcome
from interp.prompts import Prompts
from interp.replacement import parts_written
from interp.suffix_passes import Prefixes, suffix_outputs
from interp.sweep_writes import Write, spots_of

ROWS_PER_PASS = 64
_TOKENS_FOR_A_ROW = 16
Judge = Outcome | Callable[[Float[Tensor, "p v"]], Outcome]
"""An outcome, or what makes one of reference outputs: `kl_from`, `turned_from`."""


def judged_by(judge: Judge, reference: Float[Tensor, "p v"]) -> Outcome:
    """The outcome, made of the reference outputs where it asks for them."""
    return judge if isinstance(judge, Outcome) else judge(reference)


def row_chunks(n_prompts: int, rows_per_pass: int) -> list[slice]:
    """Prompts that go through a pass together."""
    return [slice(start, min(start + rows_per_pass, n_prompts)) for start in range(0, n_prompts, rows_per_pass)]


@torch.no_grad()
def swept(
    model: Model,
    prompts: Prompts,
    components: Sequence[Component],
    values: Values,
    outcome: Outcome,
    *,
    dictionaries: Dictionaries,
    rows_per_pass: int = ROWS_PER_PASS,
    tell: Callable[[int], None] | None = None,
) -> Float[Tensor, "n p"]:
    """The outcome of every prompt with each component replaced alone. `tell` hears how many components are done.

    Raises: UnknownHookError; ConfigError for an index or place that is not there.
    """
    sweep = _Sweep.of(model, prompts, components, values, outcome, dictionaries)
    found = sweep.unedited.repeat(len(components), 1)
    per_pass = max(1, rows_per_pass // len(prompts))
    sweep.lift(per_pass * _TOKENS_FOR_A_ROW)
    layers = sweep.by_layer()
    done = len(components) - sum(len(members) for members in layers.values())
    for layer, members in layers.items():
        for chosen in _pieces(members, per_pass):
            found[chosen] = sweep.at_end(chosen) if layer == model.n_layers else sweep.outcomes(layer, chosen)
            done += len(chosen)
            if tell:
                tell(done)
    return found


def _pieces(members: Sequence[int], size: int) -> list[Sequence[int]]:
    return [members[first : first + size] for first in range(0, len(members), size)]


@dataclass(frozen=True, slots=True)
class _Sweep:
    """What all passes of a sweep share: the prompts' own activations, keys and values, and outcomes."""

    model: Model
    prompts: Prompts
    components: Sequence[Component]
    values: Values
    outcome: Outcome
    dictionaries: Dictionaries
    base: Mapping[str, Float[Tensor, "p t _"]]
    prefixes: Prefixes | None
    unedited: Float[Tensor, " p"]
    lifted: dict[int, Float[Tensor, "p d"]] = field(default_factory=dict)

    @staticmethod
    def of(
        model: Model,
        prompts: Prompts,
        components: Sequence[Component],
        values: Values,
        outcome: Outcome,
        dictionaries: Dictionaries,
    ) -> "_Sweep":
        layers = {layer for component in components if (layer := model.hook(component.hook).layer) is not None}
        above = {layer + 1 for layer in layers if layer + 1 < model.n_layers}
        more = [*map(_stem_hook, sorted(layers | above)), *map(_mixed_hook, sorted(layers))]
        base = standing(model, prompts, list(dict.fromkeys([*hooks_of(components), *more])))
        apart = any(component.position is not None for component in components)
        prefixes = Prefixes.of(model, prompts) if apart else None
        unedited = outcome(last_outputs(model, prompts), prompts).double().cpu()
        return _Sweep(model, prompts, components, values, outcome, dictionaries, base, prefixes, unedited)

    def lift(self, size: int) -> None:
        """Find what each component inside a block, replaced at one token, makes of the stream above that token.

        Once attention has mixed, a block works on every token alone: that one is computed, as a row of its own, and
        the stream above is replaced instead.
        """
        layers: dict[int, list[int]] = defaultdict(list)
        for index, component in enumerate(self.components):
            layer = self.model.hook(component.hook).layer
            if layer is not None and self._inner(component, layer):
                layers[layer].append(index)
        for layer, members in layers.items():
            above = f"blocks.{layer}.hook_resid_post"
            for chosen in _pieces(members, size):
                rows, at = self._tokens(chosen)
                stem = Stem(layer, self.base[_stem_hook(layer)][rows, at][:, None])
                mixed = self.base[_mixed_hook(layer)][rows, at][:, None]
                held: dict[str, Edit] = {_mixed_hook(layer): lambda _, mixed=mixed: mixed}  # type: ignore[misc]
                with stem.entered(self.model), edit(self.model, held), edit(self.model, self._edits(chosen, None)):
                    found = capture(self.model, self.prompts.token_ids[rows, at][:, None], [above])[above]
                self.lifted.update(zip(chosen, found.view(len(chosen), len(self.prompts), -1), strict=True))

    def _inner(self, component: Component, layer: int) -> bool:
        if self.prefixes is None or component.position is None:
            return False
        order = list(self.model.hooks)
        return order.index(component.hook) >= order.index(_mixed_hook(layer))

    def _tokens(self, chosen: Sequence[int]) -> tuple[Int[Tensor, " r"], Int[Tensor, " r"]]:
        """Row and position of the token that each component stands at in each prompt."""
        places = [self.prompts.positions(self.components[index].position) for index in chosen]
        at = torch.cat([place for place in places if place is not None])
        return torch.arange(len(self.prompts)).repeat(len(chosen)), at

    def _place(self, index: int) -> Component:
        """Where a component is replaced: itself, or the stream above its block."""
        component = self.components[index]
        if index not in self.lifted:
            return component
        layer = self.model.hook(component.hook).layer
        return Component("residual", _stem_hook((layer or 0) + 1), None, component.position)

    def by_layer(self) -> dict[int | None, list[int]]:
        """Components by the block that passes begin at, those that reach furthest to the left first.

        Above the last block only what stands at a last token is read: nothing else has a pass.
        """
        layers: dict[int | None, list[int]] = defaultdict(list)
        for index in sorted(range(len(self.components)), key=lambda index: self.start([index])):
            own = self.model.hook(self.components[index].hook).layer
            layer = own + 1 if own is not None and index in self.lifted else own
            _, at = self._tokens([index]) if index in self.lifted else (None, self.prompts.last)
            if layer != self.model.n_layers or bool((at == self.prompts.last).any()):
                layers[layer].append(index)
        return layers

    def at_end(self, chosen: Sequence[int]) -> Float[Tensor, "m p"]:
        """Outcomes where the stream above the last block is replaced."""
        rows, at = self._tokens(chosen)
        new = torch.cat([self.lifted[index] for index in chosen])[:, None]
        with edit(self.model, {f"blocks.{self.model.n_layers - 1}.hook_resid_post": lambda _: new}):
            ids = self.prompts.token_ids[rows, at][:, None].to(self.model.device)
            with Stem(self.model.n_layers - 1, new).entered(self.model):
                outputs = self.model.hf(input_ids=ids, use_cache=False).logits[:, 0]
        found = self.outcome(outputs, self.prompts.repeat(len(chosen))).view(len(chosen), -1).double().cpu()
        return torch.where(at.view(len(chosen), -1) == self.prompts.last, found, self.unedited)

    def start(self, chosen: Sequence[int]) -> int:
        """The first token that any of the components stands at, in any prompt."""
        places = [self.prompts.positions(self.components[index].position) for index in chosen]
        return min(0 if place is None else int(place.min()) for place in places)

    def outcomes(self, layer: int | None, chosen: Sequence[int]) -> Float[Tensor, "m p"]:
        """One pass, over the whole rows or the ends of them."""
        start = 0 if self.prefixes is None else self.start(chosen)
        rows = self.prompts.repeat(len(chosen))
        stem = None
        if layer is not None:
            stem = Stem(layer, self.base[_stem_hook(layer)][:, start:].repeat(len(chosen), 1, 1))
        edits = self._edits(chosen, start)
        if start == 0 or self.prefixes is None:
            outputs = last_outputs(self.model, rows, edits, stem=stem)
        else:
            outputs = suffix_outputs(self.model, rows, start, self.prefixes, edits, stem)
        found = self.outcome(outputs, rows).view(len(chosen), len(self.prompts)).double().cpu()
        # What is replaced after a prompt's last token is padding.
        return torch.where(self.prompts.last < start, self.unedited, found)

    def _edits(self, chosen: Sequence[int], start: int | None) -> dict[str, Edit]:
        """Edits of a pass that has a block of rows for each component."""
        placed = [self._place(index) for index in chosen]
        writes: dict[str, Edit] = {}
        for hook in hooks_of(placed):
            blocks = [block for block, component in enumerate(placed) if component.hook == hook]
            # What was lifted is known; the rest is found from what stands.
            blocks.sort(key=lambda block: chosen[block] in self.lifted)
            known = [self.lifted[chosen[block]] for block in blocks if chosen[block] in self.lifted]
            own = [placed[block] for block in blocks]
            found = parts_written(
                self.model, self.prompts, own[: len(own) - len(known)], self.base[hook], self.values,
                self.dictionaries.get(hook),
            )  # fmt: skip
            everywhere = (new[:, None].expand(-1, self.prompts.token_ids.shape[1], -1) for new in known)
            spots = spots_of(self.model, self.prompts, blocks, own, chain(found, everywhere))
            writes[hook] = Write(list(spots), start)
        return writes


def _stem_hook(layer: int) -> str:
    return f"blocks.{layer}.hook_resid_pre"


def _mixed_hook(layer: int) -> str:
    """The last place at which a token has read others: beyond it a block works on each alone."""
    return f"blocks.{layer}.attn.hook_z"
