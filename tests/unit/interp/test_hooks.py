"""Capturing changes nothing and stops in time; editing does exactly what it says and leaves no trace."""

import numpy as np
import pytest
import torch

from interp.errors import ConfigError, DataError, ShapeError, UnknownHookError
from interp.hooks import capture, edit
from tests.families import CONTEXT, D_VOCAB, KINDS, tiny_model, tiny_tokens
from tests.unchecked import unchecked

PARALLEL = ("gpt_neox_parallel", "gptj")


@pytest.fixture(params=KINDS)
def model(request):
    return tiny_model(request.param)


@pytest.fixture
def llama():
    return tiny_model("llama")


def logits(model, token_ids=None):
    with torch.no_grad():
        return model.hf(tiny_tokens() if token_ids is None else token_ids).logits


def n_module_hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.hf.modules())


def test_activations_have_the_declared_width_and_no_gradient(model):
    acts = capture(model, tiny_tokens(), list(model.hooks))
    assert list(acts) == list(model.hooks)
    for name, x in acts.items():
        assert x.shape == (3, 11, model.hook(name).width)
        assert not x.requires_grad
        assert not x.is_inference()


def test_hooks_fire_in_the_order_in_which_they_are_listed(model):
    fired = []
    with edit(model, {name: lambda x, name=name: fired.append(name) or x for name in model.hooks}):
        logits(model)
    assert fired == list(model.hooks)


def test_captured_tensors_share_no_memory(llama):
    # One tensor, two names.
    names = ["hook_embed", "blocks.0.hook_resid_pre", "blocks.0.hook_resid_post", "blocks.1.hook_resid_pre"]
    acts = capture(llama, tiny_tokens(), names)
    assert torch.equal(acts[names[2]], acts[names[3]])
    acts[names[2]].zero_()
    assert acts[names[3]].abs().sum() > 0
    assert len({x.untyped_storage().data_ptr() for x in acts.values()}) == len(names)


def test_nothing_deeper_than_the_deepest_hook_runs(model):
    ran = []
    for layer in range(model.n_layers):
        block = model.hf.get_submodule(model.hook(f"blocks.{layer}.hook_resid_post").module_path)
        block.register_forward_pre_hook(lambda *_, layer=layer: ran.append(layer))
    capture(model, tiny_tokens(), ["blocks.1.hook_resid_post", "blocks.0.attn.hook_z"])
    assert ran == [0, 1]
    ran.clear()
    capture(model, tiny_tokens(), ["blocks.1.hook_resid_pre"])
    assert ran == [0, 1]  # our hook on block 1 came after this one, and nothing inside the block ran
    ran.clear()
    capture(model, tiny_tokens(), ["hook_embed"])
    assert ran == []


def test_capture_leaves_the_model_as_it_was(model):
    before, n_before = logits(model), n_module_hooks(model)
    capture(model, tiny_tokens(), ["blocks.1.hook_mlp_out", "blocks.1.hook_resid_pre"])
    assert n_module_hooks(model) == n_before
    assert torch.equal(logits(model), before)


def test_residual_stream_is_the_sum_of_what_is_written_to_it(model):
    acts = capture(model, tiny_tokens(), list(model.hooks))
    for layer in range(model.n_layers):
        if model.hf.config.model_type == "gpt2" and layer == 0:
            torch.testing.assert_close(acts["hook_embed"] + acts["hook_pos_embed"], acts["blocks.0.hook_resid_pre"])
        written = acts[f"blocks.{layer}.hook_attn_out"] + acts[f"blocks.{layer}.hook_mlp_out"]
        expected = acts[f"blocks.{layer}.hook_resid_pre"] + written
        torch.testing.assert_close(acts[f"blocks.{layer}.hook_resid_post"], expected)


@pytest.mark.parametrize("masked", [True, False])
def test_padding_on_the_right_does_not_change_kept_activations(model, masked):
    tokens, n_kept = tiny_tokens(), 7
    mask = torch.ones_like(tokens)
    mask[:, n_kept:] = 0
    padded = torch.where(mask.bool(), tokens, model.tokenizer.pad_token_id)
    names = list(model.hooks)
    alone = capture(model, tokens[:, :n_kept].contiguous(), names)
    together = capture(model, padded, names, attention_mask=mask if masked else None)
    for name in names:
        torch.testing.assert_close(together[name][:, :n_kept], alone[name], rtol=1e-5, atol=1e-5)


def test_packed_documents_do_not_see_each_other(model):
    first, second = tiny_tokens(2, 6), tiny_tokens(2, 5, seed=2)
    positions = torch.cat([torch.arange(6), torch.arange(5)]).expand(2, -1)
    name = "blocks.2.hook_resid_post"
    packed = capture(model, torch.cat([first, second], dim=1), [name], position_ids=positions)[name]
    torch.testing.assert_close(packed[:, :6], capture(model, first, [name])[name], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(packed[:, 6:], capture(model, second, [name])[name], rtol=1e-5, atol=1e-5)


def test_editing_nothing_changes_nothing(model):
    before = logits(model)
    with edit(model, {}):
        assert torch.equal(logits(model), before)
    with edit(model, dict.fromkeys(model.hooks, lambda x: x)):
        assert torch.equal(logits(model), before)


def test_every_edit_is_seen_by_capture_and_by_the_logits(model):
    before = logits(model)
    for name in model.hooks:
        new = torch.randn(model.hook(name).width)
        with edit(model, {name: lambda x, new=new: new.expand_as(x).clone()}):
            assert torch.equal(capture(model, tiny_tokens(), [name])[name], new.expand(3, 11, -1)), name
            assert not torch.equal(logits(model), before), name
    assert torch.equal(logits(model), before)


def test_editing_one_projection_leaves_its_siblings(model):
    names = [f"blocks.1.attn.hook_{letter}" for letter in "qkv"]
    before = capture(model, tiny_tokens(), names)
    for edited in names:
        with edit(model, {edited: lambda x: -x}):
            after = capture(model, tiny_tokens(), names)
        for name in names:
            assert torch.equal(after[name], -before[name] if name == edited else before[name])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in PARALLEL])
def test_an_edit_between_attention_and_mlp_reaches_the_stream_itself(kind):
    model, shift = tiny_model(kind), torch.randn(16)
    with edit(model, {"blocks.1.hook_resid_mid": lambda x: x + shift}):
        at_mid = logits(model)
    with edit(model, {"blocks.1.hook_attn_out": lambda x: x + shift}):
        torch.testing.assert_close(logits(model), at_mid)


def test_two_names_of_one_tensor_take_the_same_edit(model):
    with edit(model, {"blocks.0.hook_resid_post": torch.tanh}):
        after_block = logits(model)
    with edit(model, {"blocks.1.hook_resid_pre": torch.tanh}):
        assert torch.equal(logits(model), after_block)


def test_nested_edits_compose_from_the_outside_in(model):
    for name in ("blocks.1.hook_resid_pre", "blocks.1.attn.hook_k", "blocks.1.hook_attn_out", "blocks.1.mlp.hook_post"):
        before = capture(model, tiny_tokens(), [name])[name]
        with edit(model, {name: lambda x: x + 1}), edit(model, {name: lambda x: x * 2}):
            assert torch.equal(capture(model, tiny_tokens(), [name])[name], (before + 1) * 2)


def test_a_function_that_works_in_place_spoils_nothing_captured(llama):
    name, same = "blocks.0.hook_resid_post", "blocks.1.hook_resid_pre"
    before = capture(llama, tiny_tokens(), [name])[name]
    with edit(llama, {same: lambda x: x.zero_()}):
        acts = capture(llama, tiny_tokens(), [name, same])
    assert torch.equal(acts[name], before)
    assert not acts[same].any()


def test_hooks_are_removed_when_the_block_fails(model):
    before, n_before = logits(model), n_module_hooks(model)
    with pytest.raises(ZeroDivisionError), edit(model, {"blocks.0.hook_mlp_out": torch.zeros_like}):
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), edit(model, {"blocks.0.hook_mlp_out": lambda x: x / (1 // 0)}):
        capture(model, tiny_tokens(), ["blocks.2.hook_resid_post"])
    assert n_module_hooks(model) == n_before
    assert torch.equal(logits(model), before)


def test_edits_act_while_generating(model):
    favourite = torch.randn(16)
    choice = int(model.hf.get_output_embeddings().weight.mv(favourite).argmax())
    with edit(model, {"ln_final.hook_out": lambda x: favourite.expand_as(x).clone()}):
        out = model.hf.generate(tiny_tokens(2, 4), max_new_tokens=3, do_sample=False, eos_token_id=None)
    assert out[:, 4:].tolist() == [[choice] * 3] * 2


@pytest.mark.parametrize("name", ["blocks.1.hook_resid_mid", "blocks.1.hook_attn_out", "blocks.1.attn.hook_v"])
def test_gradients_flow_through_an_edit(name):
    model = tiny_model("gpt2")  # its norms stay in float64; Llama's compute in float32
    model.hf.double()
    shift = torch.zeros(model.hook(name).width, dtype=torch.float64, requires_grad=True)
    direction = torch.randn_like(shift)

    def loss_at(step):
        with edit(model, {name: lambda x: x * x + shift + step * direction}):
            return model.hf(tiny_tokens()).logits.logsumexp(-1).sum()

    (gradient,) = torch.autograd.grad(loss_at(0.0), shift)
    slope = (loss_at(1e-5) - loss_at(-1e-5)).detach() / 2e-5
    torch.testing.assert_close(gradient @ direction, slope, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    "function", [lambda x: x[:, 1:], lambda x: x.double(), lambda x: None, lambda x: x.mean(), lambda x: x[0]]
)
@pytest.mark.parametrize("name", ["blocks.1.hook_resid_mid", "blocks.1.attn.hook_q", "hook_embed"])
def test_an_edit_must_keep_shape_and_dtype(llama, name, function):
    with pytest.raises(ShapeError, match=f"edit of {name}"), edit(llama, {name: function}):
        logits(llama)


def test_an_unknown_hook_names_the_closest_and_how_to_list_them(llama):
    for act in (lambda name: capture(llama, tiny_tokens(), [name]), lambda name: edit(llama, {name: abs}).__enter__()):
        with pytest.raises(
            UnknownHookError, match=r"did you mean blocks\.2\.hook_resid_post.*interp models .* --hooks"
        ):
            act("blocks.2.hook_resid_pots")
    with pytest.raises(UnknownHookError, match="blocks are 0 to 2"):
        llama.hook("blocks.3.hook_resid_post")
    with pytest.raises(UnknownHookError, match="--hooks"):
        llama.hook("")


def test_parallel_blocks_have_no_stream_between_attention_and_mlp():
    assert "blocks.0.hook_resid_mid" not in tiny_model("gpt_neox_parallel").hooks
    assert "blocks.0.hook_resid_mid" in tiny_model("gpt_neox_sequential").hooks


def test_tokens_must_be_rows_that_fit_the_context(llama):
    assert capture(llama, tiny_tokens(1, CONTEXT), ["hook_embed"])
    with pytest.raises(ShapeError, match=f"at most {CONTEXT} positions"):
        capture(llama, tiny_tokens(1, CONTEXT + 1), ["hook_embed"])
    with pytest.raises(ConfigError, match="no hooks"):
        capture(llama, tiny_tokens(), [])


@pytest.mark.parametrize(
    ("ids", "error", "match"),
    [
        ([[3, 4]], ShapeError, "as list; expected a tensor"),
        (np.array([[3, 4]]), ShapeError, "as ndarray; expected a tensor"),
        (torch.tensor([[3.0, 4.0]]), ShapeError, r"of torch\.float32; expected torch\.int64"),
        (torch.tensor([[True, False]]), ShapeError, r"of torch\.bool; expected torch\.int64"),
        (torch.tensor([3, 4]), ShapeError, r"shape \(2,\); expected \(rows, positions\)"),
        (torch.zeros(0, 4, dtype=torch.int64), ShapeError, r"shape \(0, 4\); expected at least one row"),
        (torch.zeros(2, 0, dtype=torch.int64), ShapeError, r"shape \(2, 0\); expected at least one row"),
        (torch.tensor([[3, D_VOCAB]]), DataError, f"got token id {D_VOCAB}; .* knows {D_VOCAB} tokens"),
        (torch.tensor([[3, -1]]), DataError, "got token id -1; "),
    ],
)
def test_what_no_model_reads_is_told_in_one_line(llama, ids, error, match):
    with unchecked(), pytest.raises(error, match=match) as raised:
        capture(llama, ids, ["hook_embed"])
    assert len(str(raised.value).splitlines()) == 1
    assert n_module_hooks(llama) == 0


def test_the_last_token_of_the_vocabulary_and_short_integers_are_read(llama):
    ids = torch.tensor([[0, D_VOCAB - 1]])
    long, short = (capture(llama, x, ["hook_embed"])["hook_embed"] for x in (ids, ids.int()))
    assert torch.equal(long, short)
