"""Read and replace activations in a plain Hugging Face forward pass, under TransformerLens's hook names.

Axes: b rows of tokens, t position, d width of the hook.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import ConfigError, DataError, ModelError, ShapeError
from interp.hook_points import Visit
from interp.models import Model
from interp.several import check_several

Edit = Callable[[Float[Tensor, "b t d"]], Float[Tensor, "b t d"]]
"""Takes the activations at a hook (its own copy) and returns what shall stand there instead."""


class _AllCaptured(Exception):
    """Leaves the forward pass once the deepest wanted hook has been reached."""


def capture(
    model: Model,
    token_ids: Int[Tensor, "b t"],
    hooks: Sequence[str],
    attention_mask: Bool[Tensor, "b t"] | Int[Tensor, "b t"] | None = None,
    position_ids: Int[Tensor, "b t"] | None = None,
) -> dict[str, Float[Tensor, "b t _"]]:
    """Activations at `hooks`, in that order; nothing deeper than the deepest of them runs.

    The tensors are detached, share no memory and may be changed in place. Causal models need no mask where padding is
    on the right; encoders always do. Documents packed into one row do not see each other if position_ids restart at
    each, no mask is given and the model is causal. Inside `edit`, edited values are seen.

    Raises: UnknownHookError for a name the model lacks; ConfigError for a single string instead of names; what
    `check_tokens` raises.
    """
    check_several("hooks", hooks)
    points = [model.hook(name) for name in hooks]
    if not points:
        raise ConfigError("got no hooks to capture; give at least one name")
    if any(model.owner(name)[0] is not model for name in hooks):
        return _capture_each(model, token_ids, hooks, attention_mask, position_ids)
    check_tokens(model, token_ids)
    acts: dict[str, Tensor] = {}

    def keep(name: str) -> Visit:
        def visit(x: Tensor) -> None:
            acts[name] = x.detach()
            if len(acts) == len(set(hooks)):
                raise _AllCaptured

        return visit

    with ExitStack() as stack:
        for point in points:
            stack.enter_context(point.attach(model.hf, keep(point.name)))
        _forward(model, token_ids, attention_mask, position_ids)
    return separate(acts, hooks, n_rows=token_ids.shape[0])


def _capture_each(
    model: Model, token_ids: Tensor, hooks: Sequence[str], attention_mask: Tensor | None, position_ids: Tensor | None
) -> dict[str, Tensor]:
    """The same where hooks of several models are wanted: one pass of each."""
    acts: dict[str, Tensor] = {}
    for owner in (model, *model.others.values()):
        names = {name: model.owner(name)[1] for name in hooks if model.owner(name)[0] is owner}
        if names:
            found = capture(owner, token_ids, tuple(names.values()), attention_mask, position_ids)
            acts |= {name: found[local].to(model.device) for name, local in names.items()}
    return {name: acts[name] for name in hooks}


@contextmanager
def edit(model: Model, edits: Mapping[str, Edit]) -> Iterator[None]:
    """Replace activations in every forward pass of `model.hf` inside the block, generation included.

    Edits of one hook compose from the outermost block inwards. GPT-2's `hook_pos_embed` is shared by all rows, so its
    function may see b = 1; while generating, a function sees only the new positions.

    Raises: UnknownHookError for a name the model lacks; ShapeError if a function changes shape or dtype.
    """
    points = [(model.hook(name), function) for name, function in edits.items()]
    with ExitStack() as stack:
        for point, function in points:
            stack.enter_context(point.attach(model.owner(point.name)[0].hf, _checked(point.name, function)))
        yield


def _checked(name: str, function: Edit) -> Visit:
    def visit(x: Tensor) -> Tensor:
        # A copy, since the same tensor may be an activation that somebody else holds (resid_post of one block is
        # resid_pre of the next).
        new = function(x.clone())
        if not isinstance(new, Tensor) or new.shape != x.shape or new.dtype != x.dtype:
            got = f"{tuple(new.shape)} {new.dtype}" if isinstance(new, Tensor) else type(new).__name__
            raise ShapeError(f"the edit of {name} returned {got}; expected {tuple(x.shape)} {x.dtype}, like its input")
        return new

    return visit


def _forward(model: Model, token_ids: Tensor, attention_mask: Tensor | None, position_ids: Tensor | None) -> None:
    inputs = {"input_ids": token_ids, "attention_mask": attention_mask, "position_ids": position_ids}
    moved = {name: x.to(model.device) for name, x in inputs.items() if x is not None}
    cache = {"use_cache": False} if model.causal else {}
    # no_grad, not inference_mode: autograd refuses to save inference tensors, and an SAE trains on these.
    with torch.no_grad():
        try:
            model.hf.base_model(**moved, **cache)
        except _AllCaptured:
            return
    raise ModelError("a captured module never ran (compiled models ignore new hooks); load the model without compiling")


def separate(acts: Mapping[str, Tensor], hooks: Sequence[str], n_rows: int) -> dict[str, Tensor]:
    """One tensor per hook, none sharing memory with another (two names may mean one tensor)."""
    seen: set[int] = set()
    out = {}
    for name in hooks:
        x = acts[name].expand(n_rows, -1, -1)
        storage = x.untyped_storage().data_ptr()
        out[name] = x.clone() if storage in seen or not x.is_contiguous() else x
        seen.add(storage)
    return out


def check_tokens(model: Model, token_ids: Tensor) -> None:
    """Refuse token ids that a model cannot read.

    Raises: ShapeError unless they are a tensor of integers, (rows, positions) within its context, and not empty;
    DataError for ids beyond its vocabulary.
    """
    if not isinstance(token_ids, Tensor):
        raise ShapeError(f"got token ids as {type(token_ids).__name__}; expected a tensor; use torch.as_tensor(ids)")
    if token_ids.dtype not in (torch.int64, torch.int32):
        raise ShapeError(f"got token ids of {token_ids.dtype}; expected torch.int64; convert them with .long()")
    if token_ids.ndim != 2 or token_ids.shape[1] > model.context_size:
        raise ShapeError(
            f"got token ids of shape {tuple(token_ids.shape)}; expected (rows, positions) with at most "
            f"{model.context_size} positions, the context of {model.name}; cut or pad the rows"
        )
    if token_ids.numel() == 0:
        raise ShapeError(f"got token ids of shape {tuple(token_ids.shape)}; expected at least one row of one token")
    # Not of a GPU, which would make the host wait before each pass; whoever harvests looked while the ids were here.
    if token_ids.device.type == "cpu":
        _check_vocabulary(model, token_ids)


def _check_vocabulary(model: Model, token_ids: Tensor) -> None:
    low, high = (int(bound) for bound in token_ids.aminmax())
    if low < 0 or high >= model.d_vocab:
        raise DataError(
            f"got token id {low if low < 0 else high}; {model.name} knows {model.d_vocab} tokens, numbered from 0; "
            "use its own tokenizer"
        )
