"""A model that runs, or generates, with SAEs in the place of its activations, or transcoders in that of its layers.

Axes: b rows, t position, d width of what is read, o width of what is written, n replaced tokens.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from interp.code import Code
from interp.datasets import MaskPolicy, masked_ids
from interp.errors import ArtifactError, ConfigError, ShapeError
from interp.hooks import Edit
from interp.hooks import edit as edit_hooks
from interp.models import Model
from saes.base import SAE
from saes.facts import SAEFacts, check_same_model
from saes.hook_layout import check_width
from saes.model_fit import fitted

EditCode = Callable[[Code], Code]
"""Takes the code of the tokens that a forward pass replaces, row after row, and returns what is decoded instead."""


@runtime_checkable
class SavedSAE(Protocol):
    """An SAE with what was saved of its origin: what `open_run` and `open_sae` give."""

    @property
    def sae(self) -> SAE: ...
    @property
    def facts(self) -> SAEFacts: ...


Spliceable = SAE | SavedSAE | tuple[SAE, SAEFacts]
"""An SAE alone, or one with what was saved of it: `open_run`'s and `open_sae`'s result, or `load`'s pair."""


@contextmanager
def splice(
    model: Model,
    sae: Spliceable | Sequence[Spliceable],
    *,
    error_term: bool = False,
    prefix: int | None = None,
    edit: EditCode | Mapping[str, EditCode] | None = None,
    mask: MaskPolicy | None = None,
    allow_mismatch: bool = False,
) -> Iterator[None]:
    """Every forward pass of `model.hf` in the block, generation included, reads reconstructions at the SAEs' hooks.

    What a transcoder writes is replaced by what it makes of what stood, in the same pass, at the hook that it reads.
    Tokens that the SAE was not trained on (padding, BOS, special ones) keep their activations, by the mask policy that
    was saved with it; `mask` is the policy of a bare SAE. With `error_term` the unedited reconstruction's error is
    added back, so that without `edit` nothing changes. `prefix` decodes the first features only. `edit` changes codes:
    one function for one SAE, or functions by the name of the hook that is replaced.

    Raises: ArtifactError if an SAE belongs to another model or mask policy, unless `allow_mismatch`; ConfigError for
    SAEs that cannot be spliced (together, or as crosscoders at all), a transcoder that writes before it reads or a
    prefix out of range; UnknownHookError if the model lacks a hook.
    """
    parts = [_part(one, model) for one in _several(sae)]
    changes = _changes([part for part, _ in parts], edit)
    tokens = _PassTokens()
    replacing: dict[str, Edit] = {}
    for part, facts in parts:
        read, written = part.hooks_in[0], part.hooks_out[0]
        _check_own((read, written), model)
        check_width(model, (read,), part.d_in)
        check_width(model, (written,), part.W_dec.shape[1])
        if facts is not None and not allow_mismatch:
            check_same_model(facts, model)
        if prefix is not None and not 1 <= prefix <= part.d_sae:
            raise ConfigError(f"prefix: got {prefix}; expected 1 to {part.d_sae}, the SAE's number of features")
        masked = sorted(masked_ids(model, _policy(facts, mask, allow_mismatch=allow_mismatch)))
        replacing[written] = _Spliced(
            part, tokens, torch.tensor(masked, dtype=torch.int64), error_term, prefix, changes.get(written)
        )
    noting: dict[str, Edit] = {
        part.hooks_in[0]: _Noted(part.hooks_in[0], tokens) for part, _ in parts if part.hooks_in != part.hooks_out
    }
    handle = model.hf.base_model.register_forward_pre_hook(tokens.read, with_kwargs=True)
    try:
        # Where one SAE replaces what another reads, the other reads the replacement.
        with edit_hooks(model, replacing), edit_hooks(model, noting):
            yield
    finally:
        handle.remove()


def _several(sae: Spliceable | Sequence[Spliceable]) -> list[Spliceable]:
    if isinstance(sae, SAE | SavedSAE):
        return [sae]
    # `load` gives a pair, which is not a sequence of two SAEs.
    if isinstance(sae, tuple) and len(sae) == 2 and isinstance(sae[1], SAEFacts):
        return [(sae[0], sae[1])]
    return list(sae)


def _part(one: Spliceable, model: Model) -> tuple[SAE, SAEFacts | None]:
    if isinstance(one, SAE):
        return one, None
    return fitted(*one, model) if isinstance(one, tuple) else (one.sae, one.facts)


def _check_own(hooks: Sequence[str], model: Model) -> None:
    """Raises: ConfigError for a hook of another model, which a forward pass of this one does not come by."""
    for hook in hooks:
        if model.owner(hook)[0] is not model:
            raise ConfigError(f"got {hook}, a hook of another model than {model.name}; splice into that model itself")


def _changes(saes: Sequence[SAE], edit: EditCode | Mapping[str, EditCode] | None) -> Mapping[str, EditCode]:
    """Edits by hook name, after a look at whether these SAEs can stand together."""
    for part in saes:
        if len(part.hooks_in) != 1 or len(part.hooks_out) != 1:
            raise ConfigError(
                f"got a dictionary of hooks {', '.join(part.hooks_in)}; a crosscoder's code needs all of them before "
                "the first is replaced, which no single pass gives; saes.evaluate replaces them one by one"
            )
    hooks = [part.hooks_out[0] for part in saes]
    if not hooks or len(set(hooks)) < len(hooks):
        raise ConfigError(f"got SAEs of {', '.join(hooks) or 'no hook'}; expected one or more, each of another hook")
    if edit is None:
        return {}
    if isinstance(edit, Mapping):
        unknown = [hook for hook in edit if hook not in hooks]
        if unknown:
            raise ConfigError(f"edit: got hook {unknown[0]!r}; the SAEs stand at {', '.join(hooks)}")
        return edit
    if len(hooks) > 1:
        raise ConfigError("edit: got one function for several SAEs; give functions by hook name")
    return {hooks[0]: edit}


def _policy(facts: SAEFacts | None, mask: MaskPolicy | None, *, allow_mismatch: bool) -> MaskPolicy:
    saved = None if facts is None or facts.mask_policy is None else MaskPolicy.parse(facts.mask_policy)
    if mask is not None and saved not in (None, mask) and not allow_mismatch:
        raise ArtifactError(f"got mask policy {mask}; the SAE was trained with {saved}; leave mask out")
    return mask or saved or MaskPolicy()


class _PassTokens:
    """The forward pass that runs now: its tokens (while generating from a cache, the new ones only), and what stood at
    the hooks that transcoders read."""

    def __init__(self) -> None:
        self.noted: dict[str, Tensor] = {}
        self._token_ids: Tensor | None = None
        self._real: Tensor | None = None

    def read(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note what is given to the model.

        Raises: ConfigError if it is given embeddings, or a mask that does not say which tokens are padding.
        """
        token_ids = args[0] if args else kwargs.get("input_ids")
        if token_ids is None:
            raise ConfigError("got inputs_embeds while an SAE is spliced in; give input_ids, which tell what to spare")
        mask = args[1] if len(args) > 1 and isinstance(args[1], Tensor) else kwargs.get("attention_mask")
        if mask is not None and (not isinstance(mask, Tensor) or mask.ndim != 2):
            raise ConfigError("got an attention mask that is not (rows, positions) while an SAE is spliced in")
        self._token_ids = token_ids
        self.noted.clear()
        # With a cache the mask covers the past too.
        self._real = None if mask is None else mask[:, -token_ids.shape[1] :].bool()

    def keep(self, hook: str, x: Float[Tensor, "b t d"], masked: Tensor) -> Bool[Tensor, "b t"]:
        """Which tokens are replaced.

        Raises: ShapeError if the hook does not give one vector per token.
        """
        if self._token_ids is None or self._token_ids.shape != x.shape[:2]:
            raise ShapeError(f"{hook}: got activations {tuple(x.shape)}, not one a token; choose another hook")
        keep = ~torch.isin(self._token_ids, masked.to(self._token_ids))
        return (keep if self._real is None else keep & self._real.to(keep.device)).to(x.device)


@dataclass(frozen=True, slots=True)
class _Noted:
    """Keeps what stands at a hook until a transcoder asks for it."""

    hook: str
    tokens: _PassTokens

    def __call__(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        # A copy: what goes on through the model may be written into by an edit further down.
        self.tokens.noted[self.hook] = x.clone()
        return x


@dataclass(frozen=True, slots=True)
class _Spliced:
    """The edit of the hook that is replaced."""

    sae: SAE
    tokens: _PassTokens
    masked: Tensor
    error_term: bool
    prefix: int | None
    change: EditCode | None

    def __call__(self, y: Float[Tensor, "b t o"]) -> Float[Tensor, "b t o"]:
        keep = self.tokens.keep(self.sae.hooks_out[0], y, self.masked)
        if bool(keep.any()):
            y[keep] = self._replaced(self._read(y)[keep], y[keep]).to(y)
        return y

    def _read(self, y: Float[Tensor, "b t o"]) -> Float[Tensor, "b t d"]:
        """What the SAE encodes: what it replaces, or what stood before at the hook that a transcoder reads.

        Raises: ConfigError if the model did not come by that hook yet.
        """
        read, written = self.sae.hooks_in[0], self.sae.hooks_out[0]
        if read == written:
            return y
        if read not in self.tokens.noted:
            raise ConfigError(
                f"got a transcoder from {read} to {written}, which the model computes first; "
                "expected one that reads before it writes"
            )
        return self.tokens.noted[read]

    def _replaced(self, x: Float[Tensor, "n d"], y: Float[Tensor, "n o"]) -> Float[Tensor, "n o"]:
        code = self.sae.encode(x.to(self.sae.W_enc))
        y_hat = self.sae.decode(self._changed(code), prefix=self.prefix)
        if not self.error_term:
            return y_hat
        # Adding the difference, not the error, leaves y exact where nothing was edited.
        return y.to(y_hat) + (y_hat - self.sae.decode(code, prefix=self.prefix))

    def _changed(self, code: Code) -> Code:
        if self.change is None:
            return code
        new = self.change(code)
        if new.n_rows != code.n_rows or new.d_sae != code.d_sae:
            raise ShapeError(
                f"edit returned a code of {new.n_rows} tokens and {new.d_sae} features; "
                f"expected {code.n_rows} and {code.d_sae}, as it was given"
            )
        return new
