import pytest
import torch

from interp.code import ActivationBatch
from interp.datasets import DataConfig, open_stream
from interp.errors import ConfigError
from interp.hooks import capture
from interp.lenses.divergence import LensDivergence, measure_divergence
from interp.lenses.logit import divergence, logit_lens
from interp.lenses.tuned import TunedLens
from tests.families import tiny_model, tiny_tokens
from tests.texts import tiny_texts, write_jsonl


def _batch(model, lens, n_rows=16):
    hooks = [*lens.hooks, lens.teacher_hook]
    acts = {hook: x.flatten(0, 1) for hook, x in capture(model, tiny_tokens(n_rows, 12), hooks).items()}
    n = n_rows * 12
    return ActivationBatch(acts, *(torch.zeros(n, dtype=torch.int64) for _ in range(3)))


def _trained(model, lens, n_steps=60):
    optimiser = torch.optim.SGD(lens.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    batch = _batch(model, lens)
    for _ in range(n_steps):
        optimiser.zero_grad()
        lens.losses(batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(lens.parameters(), 1.0)
        optimiser.step()
    return lens


def test_at_zero_the_tuned_lens_is_the_logit_lens():
    model = tiny_model("gpt2")
    lens = TunedLens(model)
    for hook, x in _batch(model, lens).acts.items():
        torch.testing.assert_close(lens.logits(hook, x), logit_lens(model, x))


def test_the_loss_is_the_sum_of_the_layers_divergences_and_its_gradient_is_the_lens_alone():
    model = tiny_model("llama")
    lens = TunedLens(model)
    batch = _batch(model, lens)
    report = lens.losses(batch)
    teacher = logit_lens(model, batch.acts[lens.teacher_hook])
    expected = [divergence(teacher, logit_lens(model, batch.acts[hook])).mean() for hook in lens.hooks]
    torch.testing.assert_close(report.loss.detach(), torch.stack(expected).sum())
    report.loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in lens.parameters())
    assert all(p.grad is None for p in model.hf.parameters())


def test_the_gradient_at_zero_is_that_of_the_chain_rule():
    """d KL / d b is the mean gradient with respect to the state, d KL / d A its outer product with the state."""
    model = tiny_model("llama")
    lens = TunedLens(model, ["blocks.1.hook_resid_post"])
    batch = _batch(model, lens, n_rows=2)
    lens.losses(batch).loss.backward()
    x = batch.acts["blocks.1.hook_resid_post"].clone().requires_grad_()
    divergence(logit_lens(model, batch.acts[lens.teacher_hook]), logit_lens(model, x)).mean().backward()
    torch.testing.assert_close(lens.b.grad[0], x.grad.sum(0), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(lens.A.grad[0], x.grad.T @ x.detach(), rtol=1e-4, atol=1e-6)


def test_the_last_layer_alone_has_nothing_to_tune():
    with pytest.raises(ConfigError, match="where every lens is the model"):
        TunedLens(tiny_model("llama"), ["blocks.2.hook_resid_post"])


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A tuned lens of a tiny model, and what it and the logit lens measure on other text."""
    model = tiny_model("llama")
    lens = _trained(model, TunedLens(model))
    data = write_jsonl(tmp_path_factory.mktemp("text") / "text.jsonl", tiny_texts(60, longest=15))
    stream = open_stream(str(data), model, DataConfig(context_size=20), split="all")
    return lens, stream, measure_divergence(lens, stream, n_tokens=400)


def test_trained_it_is_nearer_to_the_model_at_every_layer(measured):
    _, _, found = measured
    assert [layer.hook for layer in found.layers] == list(measured[0].hooks)
    assert all(layer.below and layer.tuned < layer.logit for layer in found.layers)


def test_untrained_it_is_not_below(measured):
    lens, stream, _ = measured
    found = measure_divergence(TunedLens(lens.model), stream, n_tokens=200)
    assert all(layer.difference == 0 and not layer.below for layer in found.layers)


def test_means_are_over_tokens_whatever_the_batches(measured):
    lens, stream, _ = measured
    whole = measure_divergence(lens, stream, n_tokens=10**9)
    kl, n = 0.0, 0
    hook = lens.hooks[1]
    for batch in stream.iter_pass():
        acts = capture(lens.model, batch.token_ids, [hook, lens.teacher_hook])
        kept = {name: x[batch.keep] for name, x in acts.items()}
        kl += float(
            divergence(logit_lens(lens.model, kept[lens.teacher_hook]), lens.logits(hook, kept[hook])).sum().detach()
        )
        n += batch.n_kept
    assert whole.n_tokens == n
    assert whole.layers[1].tuned == pytest.approx(kl / n, rel=1e-5)


def test_an_exact_reconstruction_changes_nothing_and_an_empty_one_much(measured):
    lens, stream, found = measured
    hook = lens.hooks[2]
    same = measure_divergence(lens, stream, n_tokens=400, reconstruct={hook: lambda x: x})
    gone = measure_divergence(lens, stream, n_tokens=400, reconstruct={hook: torch.zeros_like})
    assert same.layers == found.layers
    assert gone.layers[2].tuned > found.layers[2].tuned
    assert gone.layers[:2] == found.layers[:2]


def test_it_saves_loads_and_prints(measured, tmp_path):
    found = measured[2]
    found.save(tmp_path / "divergence.json")
    assert LensDivergence.load(tmp_path / "divergence.json") == found
    assert f"{found.layers[0].logit:.4f}" in found._repr_html_()
