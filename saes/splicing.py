"""A model that runs, or generates, with SAEs in the place of its activations.

Axes: b rows, t position, d width of the hook, n replaced tokens.
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
from interp.hooks import edit as edit_hooks
from interp.models import Model
from saes.base import SAE
from saes.facts import SAEFacts, check_same_model, check_width
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

    Tokens that the SAE was not trained on (padding, BOS, special ones) keep their activations, by the mask policy that
    was saved with it; `mask` is the policy of a bare SAE. With `error_term` the unedited reconstruction's error is
    added back, so that without `edit` nothing changes. `prefix` decodes the first features only. `edit` changes codes:
    one function for one SAE, or functions by hook name.

    Raises: ArtifactError if an SAE belongs to another model or mask policy, unless `allow_mismatch`; ConfigError for
    SAEs that cannot be spliced together or a prefix out of range; UnknownHookError if the model lacks a hook.
    """
    parts = [_part(one, model) for one in _several(sae)]
    changes = _changes([part for part, _ in parts], edit)
    tokens = _PassTokens()
    edits = {}
    for part, facts in parts:
        hook = part.hooks_in[0]
        check_width(hook, part.d_in, model)
        if facts is not None and not allow_mismatch:
            check_same_model(facts, model)
        if prefix is not None and not 1 <= prefix <= part.d_sae:
            raise ConfigError(f"prefix: got {prefix}; expected 1 to {part.d_sae}, the SAE's number of features")
        masked = sorted(masked_ids(model, _policy(facts, mask, allow_mismatch=allow_mismatch)))
        edits[hook] = _Spliced(
            part, tokens, torch.tensor(masked, dtype=torch.int64), error_term, prefix, changes.get(hook)
        )
    handle = model.hf.base_model.register_forward_pre_hook(tokens.read, with_kwargs=True)
    try:
        with edit_hooks(model, edits):
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


def _changes(saes: Sequence[SAE], edit: EditCode | Mapping[str, EditCode] | None) -> Mapping[str, EditCode]:
    """Edits by hook name, after a look at whether these SAEs can stand together."""
    hooks = [part.hooks_in[0] for part in saes]
    for part in saes:
        if len(part.hooks_in) != 1 or part.hooks_in != part.hooks_out:
            raise ConfigError(f"got hooks {part.hooks_in} -> {part.hooks_out}; only an SAE of one hook can replace it")
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
    """The tokens of the forward pass that runs now; while generating from a cache, the new ones only."""

    def __init__(self) -> None:
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
class _Spliced:
    """The edit of one hook."""

    sae: SAE
    tokens: _PassTokens
    masked: Tensor
    error_term: bool
    prefix: int | None
    change: EditCode | None

    def __call__(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        keep = self.tokens.keep(self.sae.hooks_in[0], x, self.masked)
        if bool(keep.any()):
            x[keep] = self._replaced(x[keep]).to(x)
        return x

    def _replaced(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        acts = x.to(self.sae.W_enc)
        code = self.sae.encode(acts)
        x_hat = self.sae.decode(self._changed(code), prefix=self.prefix)
        if not self.error_term:
            return x_hat
        # Adding the difference, not the error, leaves x exact where nothing was edited.
        return acts + (x_hat - self.sae.decode(code, prefix=self.prefix))

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
