import pytest
import torch

from interp.errors import ConfigError
from interp.hooks import capture
from interp.lenses.logit import lens_hooks, logit_lens
from interp.lenses.transplant import N_CONTEXT, NOWHERE, Transplants, fixed_contexts, self_fed, transplanted_logits
from tests.families import KINDS, tiny_model, tiny_tokens


def _runs(token_ids, hidden, place, *, read_at=None, prompt=None):
    r = len(token_ids)
    at = torch.tensor([N_CONTEXT - 1] if read_at is None else read_at).expand(r, -1)
    return Transplants(token_ids, at, torch.full((r,), place), hidden, N_CONTEXT, prompt)


def _plain(model, tokens):
    with torch.no_grad():
        return model.hf(tokens).logits


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_put_back_where_it_came_from_changes_nothing(kind):
    model, tokens = tiny_model(kind), tiny_tokens(3, 13)
    hooks, read_at = lens_hooks(model), [9, 10, 12]
    expected = _plain(model, tokens)[:, read_at]
    acts = capture(model, tokens, hooks)
    for place, hook in enumerate(hooks):
        found = transplanted_logits(model, hooks, _runs(tokens, acts[hook][:, 9], place, read_at=read_at))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_without_transplant_it_is_a_plain_run():
    model, tokens = tiny_model("llama"), tiny_tokens(3, 13)
    runs = _runs(tokens, torch.full((3, 16), torch.nan), NOWHERE, read_at=[9, 12])
    torch.testing.assert_close(transplanted_logits(model, lens_hooks(model), runs), _plain(model, tokens)[:, [9, 12]])


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gemma2"])
def test_at_the_last_layer_the_state_is_read_as_it_is_and_nothing_later_sees_it(kind):
    model, tokens, hidden = tiny_model(kind), tiny_tokens(3, 13), torch.randn(3, 16)
    hooks = lens_hooks(model)
    found = transplanted_logits(model, hooks, _runs(tokens, hidden, len(hooks) - 1, read_at=[9, 11]))
    torch.testing.assert_close(found[:, 0], logit_lens(model, hidden), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[:, 1], _plain(model, tokens)[:, 11], rtol=1e-4, atol=1e-5)


def test_runs_of_one_pass_do_not_mix():
    """Different places in one pass give what each gives alone."""
    model, tokens, hidden = tiny_model("gpt2"), tiny_tokens(4, 12), torch.randn(4, 16)
    hooks = lens_hooks(model)
    at = torch.tensor([[9], [10], [11], [9]])
    together = Transplants(tokens, at, torch.tensor([0, 2, NOWHERE, 3]), hidden, N_CONTEXT)
    found = transplanted_logits(model, hooks, together)
    for row in range(4):
        one = slice(row, row + 1)
        alone = Transplants(tokens[one], at[one], together.place[one], hidden[one], N_CONTEXT)
        torch.testing.assert_close(found[one], transplanted_logits(model, hooks, alone), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_soft_prompt_of_embedded_tokens_is_the_hard_one_and_what_lies_under_it_is_not_seen(kind):
    model, tokens = tiny_model(kind), tiny_tokens(2, 12)
    prompt = capture(model, tokens, ["hook_embed"])["hook_embed"][:, :N_CONTEXT]
    under = torch.cat([torch.zeros_like(tokens[:, :N_CONTEXT]), tokens[:, N_CONTEXT:]], dim=1)
    runs = _runs(under, torch.zeros(2, 16), NOWHERE, read_at=[9, 11], prompt=prompt)
    expected = _plain(model, tokens)[:, [9, 11]]
    found = transplanted_logits(model, lens_hooks(model), runs)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_gradients_reach_the_prompt_but_not_the_position_that_is_replaced_in_the_stream():
    """At the embedding the transplant hides the prompt's last vector; one layer up, attention below still reads it."""
    model = tiny_model("llama")
    grads = []
    for place in (0, 1):
        prompt = torch.randn(2, N_CONTEXT, 16, generator=torch.Generator().manual_seed(1)).requires_grad_()
        tokens = torch.cat([torch.zeros(2, N_CONTEXT, dtype=torch.int64), tiny_tokens(2, 1)], dim=1)
        runs = _runs(tokens, torch.ones(2, 16), place, read_at=[10], prompt=prompt)
        transplanted_logits(model, lens_hooks(model), runs).square().sum().backward()
        grads.append(prompt.grad.abs().sum(-1))
    assert (grads[0][:, :-1] > 0).all()
    assert (grads[0][:, -1] == 0).all()
    assert (grads[1][:, -1] > 0).all()


def test_a_self_fed_run_is_the_one_that_is_fed_its_own_likeliest_tokens():
    model, contexts, hidden = tiny_model("gpt2"), tiny_tokens(3, N_CONTEXT), torch.randn(3, 16)
    hooks = lens_hooks(model)
    found = self_fed(model, hooks, _runs(contexts, hidden, 1), 4)
    own = torch.cat([contexts, found[:, :-1].argmax(-1)], dim=1)
    fed = transplanted_logits(model, hooks, _runs(own, hidden, 1, read_at=[9, 10, 11, 12]))
    torch.testing.assert_close(found, fed, rtol=1e-4, atol=1e-5)


def test_contexts_are_bos_and_the_last_tokens_of_the_text():
    model = tiny_model("llama")
    words = " ".join(f"w{index}" for index in range(4, 20))
    assert fixed_contexts(model, [words]).tolist() == [[0, *range(11, 20)]]
    with pytest.raises(ConfigError, match=r"has 2 tokens; expected at least 9"):
        fixed_contexts(model, ["w4 w5"])
