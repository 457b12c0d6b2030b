import pytest
import torch

from interp.errors import ConfigError, ShapeError
from interp.lenses.continuations import continue_rows
from interp.lenses.future import METHODS, FutureLens
from interp.lenses.linear import least_squares
from interp.lenses.logit import divergence, lens_hooks, logit_lens
from interp.lenses.transplant import N_CONTEXT, NOWHERE
from tests.families import tiny_model, tiny_tokens

MODEL = tiny_model("llama")


def _examples(n=24, hooks=()):
    rows = tiny_tokens(n, 8)
    return continue_rows(MODEL, rows, torch.arange(n), hooks=lens_hooks(MODEL, hooks), n_distances=3, decoding="greedy")


def _lens(model=MODEL, **settings):
    return FutureLens(model, contexts=tiny_tokens(4, N_CONTEXT, seed=9), n_distances=3, **settings)


def test_least_squares_finds_an_affine_map():
    x, weight, bias = torch.randn(50, 6), torch.randn(3, 6), torch.randn(3)
    found_weight, found_bias = least_squares(x, x @ weight.T + bias, ridge=1e-9)
    torch.testing.assert_close(found_weight.float(), weight, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found_bias.float(), bias, rtol=1e-4, atol=1e-5)


def test_ridge_least_squares_is_that_of_an_independent_solver():
    x, y = torch.randn(20, 6, dtype=torch.float64), torch.randn(20, 3, dtype=torch.float64)
    weight, bias = least_squares(x, y, ridge=0.1)
    centred = x - x.mean(0)
    strength = 0.1 * centred.square().sum(0).mean()
    # Ridge regression is plain least squares on data with rows of its own for the penalty.
    padded = torch.cat([centred, strength.sqrt() * torch.eye(6, dtype=torch.float64)])
    target = torch.cat([y - y.mean(0), torch.zeros(6, 3, dtype=torch.float64)])
    torch.testing.assert_close(weight, torch.linalg.lstsq(padded, target).solution.T)
    torch.testing.assert_close(bias, y.mean(0) - x.mean(0) @ weight.T)


def test_fewer_examples_than_widths_and_constant_states_have_a_solution():
    weight, bias = least_squares(torch.ones(3, 6), torch.randn(3, 2))
    assert torch.isfinite(weight).all()
    assert torch.isfinite(bias).all()


@pytest.mark.parametrize("method", ["linear_hidden", "linear_vocab"])
def test_from_the_last_layer_the_next_token_is_linear_or_nearly(method):
    """The map to the last layer's own state is the identity; logits are linear in the normed state alone."""
    lens, examples = _lens(methods=[method]), _examples(200)
    lens.start(examples)
    found = lens.predictions(method, "blind", 3, examples)[:, 0]
    kl = divergence(logit_lens(MODEL, examples.final[:, 0]), found).mean()
    assert float(kl) < (1e-4 if method == "linear_hidden" else 0.1)


def test_linear_vocab_begins_as_least_squares_onto_the_models_logits():
    lens, examples = _lens(methods=["linear_vocab"]), _examples(200)
    lens.start(examples)
    used = examples.usable[:, 1]
    weight, bias = least_squares(examples.hidden[used, 2], logit_lens(MODEL, examples.final[used, 1]))
    expected = examples.hidden[:, 2] @ weight.float().T + bias.float()
    torch.testing.assert_close(
        lens.predictions("linear_vocab", "blind", 2, examples)[:, 1], expected, rtol=1e-3, atol=1e-3
    )


def test_the_loss_is_the_sum_of_every_methods_divergences_over_usable_examples():
    lens, examples = _lens(), _examples(8)
    lens.start(examples)
    report = lens.losses(examples)
    teacher = logit_lens(MODEL, examples.final)
    expected = 0.0
    for method, modes in (
        ("linear_vocab", ["blind"]),
        ("linear_hidden", ["blind"]),
        ("learned_prompt", ["blind", "fed"]),
    ):
        for mode in modes:
            for layer in range(len(lens.hooks)) if "linear" in method else [*range(len(lens.hooks)), NOWHERE]:
                kl = divergence(teacher, lens.predictions(method, mode, layer, examples))
                for n in range(3):
                    # At distance 0 the two modes share a prompt.
                    if n or mode == "blind":
                        used = examples.usable[:, n].float()
                        expected += float((kl[:, n] * used).sum() / used.sum())
    assert float(report.loss.detach()) == pytest.approx(expected, rel=1e-4)


def test_its_gradient_reaches_every_prompt_and_map_and_no_weight_of_the_model():
    lens = _lens()
    lens.losses(_examples(8)).loss.backward()
    assert all(p.grad is not None for p in lens.parameters())
    moved = lens.learned.prompts.grad.abs().amax(dim=(2, 3)) > 0
    # At the last layer a state is read as it stands: no prompt before it can help, but what is fed behind it sees one.
    last = [slot.mode == "fed" for slot in lens.learned.slots]
    assert moved.tolist() == [[True] * 5, [True] * 5, [True] * 5, last, [True] * 5]
    assert all(p.grad is None for p in MODEL.hf.parameters())


def test_at_distance_0_blind_and_fed_are_the_same():
    lens, examples = _lens(), _examples(8)
    for method in ("fixed_prompt", "learned_prompt"):
        blind, fed = (lens.predictions(method, mode, 1, examples)[:, 0] for mode in ("blind", "fed"))
        torch.testing.assert_close(blind, fed, rtol=1e-4, atol=1e-5)


def test_blind_methods_do_not_see_the_continuation_and_fed_ones_only_what_stands_before():
    lens, examples = _lens(), _examples(8)
    lens.start(examples)
    other = examples.tokens.clone()
    other[:, 1] = (other[:, 1] + 1) % 30 + 4
    changed = type(examples)(*(other if name == "tokens" else getattr(examples, name) for name in examples.__slots__))
    for method in METHODS:
        a, b = (lens.predictions(method, "blind", 1, one) for one in (examples, changed))
        assert torch.equal(a, b), method
    for method in ("fixed_prompt", "learned_prompt"):
        a, b = (lens.predictions(method, "fed", 1, one) for one in (examples, changed))
        torch.testing.assert_close(a[:, :2], b[:, :2], rtol=1e-5, atol=1e-5)
        assert not torch.allclose(a[:, 2], b[:, 2])


def test_training_lowers_the_loss_of_every_method():
    """From zero maps: so few examples are met exactly by least squares."""
    hooks = ["blocks.1.hook_resid_post"]
    lens, examples = _lens(hooks=hooks), _examples(16, hooks)
    optimiser = torch.optim.AdamW(lens.parameters(), lr=1e-2)
    first = lens.losses(examples).terms
    for _ in range(10):
        optimiser.zero_grad()
        lens.losses(examples).loss.backward()
        optimiser.step()
    last = lens.losses(examples).terms
    assert all(last[name] < 0.97 * first[name] for name in first)


def test_what_a_lens_does_not_have_is_refused():
    lens = _lens(methods=["linear_hidden"])
    for method, mode in (("learned_prompt", "blind"), ("linear_hidden", "fed")):
        with pytest.raises(ConfigError, match=f"got {method}, {mode}; this lens has linear_hidden"):
            lens.predictions(method, mode, 0, _examples(4))
    with pytest.raises(ShapeError, match=r"this lens reads 3 at blocks\.0\.hook_resid_pre"):
        lens.losses(_examples(4, ["blocks.1.hook_resid_post"]))
    with pytest.raises(ConfigError, match="contexts of 7 tokens"):
        FutureLens(MODEL, contexts=tiny_tokens(4, 7))
