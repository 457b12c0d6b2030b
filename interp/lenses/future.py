"""Future Lens: how far ahead a single hidden state tells what the model will say.

Axes: b examples, l layers (hooks), n distances (0: the next token), p prompt tokens, d d_model, v vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.errors import ConfigError, ShapeError
from interp.lenses.continuations import Continuations
from interp.lenses.linear import LinearHidden, LinearVocab
from interp.lenses.logit import divergence, lens_hooks, logit_lens
from interp.lenses.transplant import N_CONTEXT, NOWHERE, Transplants, self_fed, transplanted_logits
from interp.loop import StepReport
from interp.models import Model

Method = Literal["linear_vocab", "linear_hidden", "fixed_prompt", "learned_prompt"]
METHODS: tuple[Method, ...] = get_args(Method)
Mode = Literal["blind", "fed"]
"""blind: nothing but the state enters. fed: the true tokens up to the one asked for stand behind it."""
MODES: tuple[Mode, ...] = get_args(Mode)
PROMPT_SD = 0.02


@dataclass(frozen=True, slots=True)
class Slot:
    """What one learned prompt is for; at distance 0 both modes are the same."""

    n: int
    mode: Mode


def slots(n_distances: int, modes: Sequence[Mode]) -> tuple[Slot, ...]:
    """One prompt for each distance and mode."""
    later = [Slot(n, mode) for n in range(1, n_distances) for mode in modes]
    return (Slot(0, "blind"), *later)


class LearnedPrompts(nn.Module):
    """Soft prompts into which a state is transplanted: one for each layer, distance and mode.

    The last of the layers stands for no transplant at all: what a prompt can do without any state, trained as long.
    Shapes: prompts (l + 1, slots, p, d).
    """

    def __init__(self, model: Model, n_layers: int, n_distances: int, modes: Sequence[Mode], *, seed: int) -> None:
        super().__init__()
        self.slots = slots(n_distances, modes)
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(n_layers + 1, len(self.slots), N_CONTEXT, model.d_model, generator=generator)
        self.prompts = nn.Parameter(PROMPT_SD * drawn.to(model.device))

    def slot(self, n: int, mode: Mode) -> int:
        """Index of the prompt for a distance and mode."""
        return self.slots.index(Slot(n, mode if n else "blind"))

    def runs(self, batch: Continuations, layer: int, slot: int) -> Transplants:
        """One run for each example; `layer` NOWHERE: without transplant."""
        what, b, device = self.slots[slot], len(batch), batch.tokens.device
        fed = batch.tokens[:, : what.n] if what.mode == "fed" else batch.tokens[:, :0]
        # What stands under the soft prompt is never seen.
        under = torch.zeros(b, N_CONTEXT, dtype=fed.dtype, device=device)
        read_at = torch.full((b, 1), N_CONTEXT - 1 + fed.shape[1], device=device)
        prompt = self.prompts[layer, slot].expand(b, -1, -1)
        place = torch.full((b,), layer, device=device)
        return Transplants(torch.cat([under, fed], 1), read_at, place, batch.hidden[:, layer], N_CONTEXT, prompt)


class FutureLens(nn.Module):
    """The four methods of reading future tokens from a hidden state, fitted together on the same examples.

    Source: Pal et al. 2023, "Future Lens", sections 3.1 to 3.3.
    """

    contexts: Tensor

    def __init__(
        self,
        model: Model,
        *,
        contexts: Int[Tensor, "m p"],
        hooks: Sequence[str] = (),
        n_distances: int = 4,
        methods: Sequence[Method] = METHODS,
        modes: Sequence[Mode] = ("blind", "fed"),
        seed: int = 0,
    ) -> None:
        """Raises: ModelError for an encoder; ConfigError for unknown methods or contexts that are not ten tokens."""
        super().__init__()
        unknown = [method for method in methods if method not in METHODS]
        if unknown or not methods or contexts.shape[1] != N_CONTEXT:
            raise ConfigError(
                f"got methods {', '.join(methods) or 'none'} and contexts of {contexts.shape[1]} tokens; expected some "
                f"of {', '.join(METHODS)} and contexts of {N_CONTEXT}"
            )
        self.model, self.hooks = model, lens_hooks(model, hooks)
        self.n_distances, self.methods, self.modes = n_distances, tuple(methods), tuple(modes)
        self.register_buffer("contexts", contexts.to(model.device))
        n_layers = len(self.hooks)
        self.linear_vocab = LinearVocab(model, n_layers, n_distances) if "linear_vocab" in methods else None
        self.linear_hidden = LinearHidden(model, n_layers, n_distances) if "linear_hidden" in methods else None
        self.learned = None
        if "learned_prompt" in methods:
            self.learned = LearnedPrompts(model, n_layers, n_distances, modes, seed=seed)

    def start(self, examples: Continuations) -> None:
        """Fit the linear maps by least squares; prompts begin at random.

        Raises: ShapeError for examples of other hooks or distances.
        """
        self._check_examples(examples)
        for linear in self._linear.values():
            linear.start(examples)

    @property
    def _linear(self) -> dict[str, LinearVocab | LinearHidden]:
        held = {"linear_vocab": self.linear_vocab, "linear_hidden": self.linear_hidden}
        return {name: linear for name, linear in held.items() if linear is not None}

    def losses(self, batch: Continuations) -> StepReport:
        """KL(model‖lens) at each distance, summed over layers, distances and modes. Pure.

        Units: nats per example; terms are means over what each method sums.
        """
        self._check_examples(batch)
        with torch.no_grad():
            teacher = logit_lens(self.model, batch.final)
        found = {name: self._linear_losses(linear, batch, teacher) for name, linear in self._linear.items()}
        if self.learned is not None:
            found["learned_prompt"] = self._prompt_losses(self.learned, batch, teacher)
        terms = {f"kl.{name}": kl.detach().mean() for name, kl in found.items()}
        return StepReport(torch.cat([*found.values(), teacher.new_zeros(1)]).sum(), terms, len(batch))

    def _linear_losses(
        self, linear: LinearVocab | LinearHidden, batch: Continuations, teacher: Float[Tensor, "b n v"]
    ) -> Float[Tensor, " m"]:
        found = []
        for layer in range(len(self.hooks)):
            for n in range(self.n_distances):
                kl = divergence(teacher[:, n], linear.logits(layer, n, batch.hidden[:, layer]))
                found.append(_usable_mean(kl, batch, n))
        return torch.stack(found)

    def _prompt_losses(
        self, learned: LearnedPrompts, batch: Continuations, teacher: Float[Tensor, "b n v"]
    ) -> Float[Tensor, " m"]:
        """All prompts whose runs are of one length in one pass of the model."""
        found = []
        places = [*range(len(self.hooks)), NOWHERE]
        for group in _by_length(learned.slots):
            which = [(layer, slot) for layer in places for slot in group]
            runs = _stacked([learned.runs(batch, layer, slot) for layer, slot in which])
            logits = transplanted_logits(self.model, self.hooks, runs)[:, 0].unflatten(0, (len(which), len(batch)))
            for index, (_, slot) in enumerate(which):
                n = learned.slots[slot].n
                found.append(_usable_mean(divergence(teacher[:, n], logits[index]), batch, n))
        return torch.stack(found)

    def project_gradients(self) -> None:
        """Nothing to project."""

    def after_update(self, report: StepReport, optimiser: torch.optim.Optimizer) -> None:
        """Nothing to restore."""

    @torch.no_grad()
    def predictions(self, method: Method, mode: Mode, layer: int, batch: Continuations) -> Float[Tensor, "b n v"]:
        """Logits at each distance from the state at one layer (NOWHERE: from the prompt alone).

        Linear methods are blind. A fixed prompt that is blind reads its own likeliest tokens, since it cannot know
        how far ahead it is asked; a learned one is read where the state stands, one prompt for each distance.
        Raises: ConfigError for a method or mode that this lens does not have.
        """
        self._check(method, mode, layer)
        self._check_examples(batch)
        if method in self._linear:
            linear = self._linear[method]
            distances = range(self.n_distances)
            return torch.stack([linear.logits(layer, n, batch.hidden[:, layer]) for n in distances], dim=1)
        if method == "learned_prompt":
            assert self.learned is not None
            chosen = [self.learned.slot(n, mode) for n in range(self.n_distances)]
            runs = [self.learned.runs(batch, layer, slot) for slot in chosen]
            return torch.cat([transplanted_logits(self.model, self.hooks, one) for one in runs], dim=1)
        runs_fixed = self._fixed_runs(layer, batch)
        if mode == "blind":
            return self_fed(self.model, self.hooks, runs_fixed, self.n_distances)
        return transplanted_logits(self.model, self.hooks, runs_fixed)

    def _check(self, method: Method, mode: Mode, layer: int) -> None:
        linear = method in ("linear_vocab", "linear_hidden")
        if method not in self.methods or (linear and (mode == "fed" or layer == NOWHERE)):
            raise ConfigError(
                f"got {method}, {mode}; this lens has {', '.join(self.methods)}, of which the linear ones are blind"
            )
        if method == "learned_prompt" and mode not in self.modes:
            raise ConfigError(f"got mode {mode}; this lens has prompts for {', '.join(self.modes)}; train one for it")

    def _check_examples(self, examples: Continuations) -> None:
        if (examples.hooks, examples.n_distances) != (self.hooks, self.n_distances):
            raise ShapeError(
                f"got examples of {examples.n_distances} distances at {', '.join(examples.hooks)}; this lens reads "
                f"{self.n_distances} at {', '.join(self.hooks)}; draw them for its hooks"
            )

    def _fixed_runs(self, layer: int, batch: Continuations) -> Transplants:
        """Contexts in turn over the documents' examples, with all true tokens behind them, read at each distance."""
        b, device = len(batch), batch.tokens.device
        # By the state's last token and document, so that neither order nor size of a batch decides the context.
        turn = (batch.document + batch.last[:, -1]) % self.contexts.shape[0]
        token_ids = torch.cat([self.contexts[turn], batch.tokens[:, :-1]], dim=1)
        read_at = torch.arange(N_CONTEXT - 1, N_CONTEXT - 1 + self.n_distances, device=device).expand(b, -1)
        place = torch.full((b,), layer, device=device)
        return Transplants(token_ids, read_at, place, batch.hidden[:, layer], N_CONTEXT)


def _usable_mean(kl: Float[Tensor, " b"], batch: Continuations, n: int) -> Float[Tensor, ""]:
    usable = batch.usable[:, n].to(kl.dtype)
    return (kl * usable).sum() / usable.sum().clamp(min=1)


def _by_length(found: Sequence[Slot]) -> Iterator[list[int]]:
    """Indices of the slots whose runs have as many tokens."""
    lengths = [slot.n if slot.mode == "fed" else 0 for slot in found]
    for length in sorted(set(lengths)):
        yield [index for index, held in enumerate(lengths) if held == length]


def _stacked(runs: Sequence[Transplants]) -> Transplants:
    def together(name: str) -> Tensor:
        return torch.cat([getattr(one, name) for one in runs])

    prompt = None if runs[0].prompt is None else together("prompt")
    tensors = (together("token_ids"), together("read_at"), together("place"), together("hidden"))
    return Transplants(*tensors, n_context=runs[0].n_context, prompt=prompt)
