"""Future Lens on finite-state sources: the best predictor is known for continuations sampled at temperature 1."""

import numpy as np
import pytest
import torch

from interp.lenses.continuations import ContinuationBatches, continue_rows, joined
from interp.lenses.future import FutureLens
from interp.lenses.logit import lens_hooks
from interp.lenses.measure import CountedArms, measure_table
from interp.lenses.scoring import likeliest, score
from interp.lenses.table import BIGRAM, FIXED, FIXED_ALONE, ITSELF, LEARNED, LEARNED_ALONE, LINEAR_HIDDEN, LINEAR_VOCAB
from interp.lenses.transplant import N_CONTEXT, NOWHERE
from tests.markov import FIRST, Markov, learns, speaks_order_1

POINTS = 0.02


def _sampled(model, rows, *, seed, lengths=(12,)):
    """Prefixes of each length, continued by two sampled tokens."""
    parts = []
    for length, some in zip(lengths, rows.chunk(len(lengths)), strict=True):
        generator = torch.Generator().manual_seed(seed + length)
        documents = torch.arange(len(some)) + len(parts) * len(rows)
        settings = {"hooks": lens_hooks(model), "n_distances": 2, "decoding": "sampled", "generator": generator}
        parts.append(continue_rows(model, some[:, :length], documents, **settings))
    return joined(parts)


def _within(source, examples):
    """Without the few continuations that leave the source's alphabet, for which it has no optimum."""
    inside = ((examples.tokens >= FIRST) & (examples.tokens < FIRST + source.n)).all(1)
    assert float(inside.float().mean()) > 0.99
    return examples.take(inside.nonzero()[:, 0])


def test_on_an_exact_chain_linear_maps_reach_the_optimum_and_no_arm_passes_it():
    """Order 1 by construction: N = 1 is the squared chain, blind, and the chain itself where the token is fed."""
    p = np.random.default_rng(1).dirichlet(np.full(8, 0.4), size=8).clip(1e-4)
    p /= p.sum(1, keepdims=True)
    source = Markov(np.broadcast_to(p, (8, 8, 8)))
    model = speaks_order_1(p)
    train, held = (_sampled(model, source.rows(1500, 12, seed=seed), seed=seed) for seed in (2, 3))
    best = [float(p[held.last[:, 1] - FIRST].max(-1).mean()), source.best_blind(held.last)]
    fed = source.best_fed(held.last, held.tokens[:, 0])
    lens = FutureLens(
        model,
        contexts=source.rows(4, N_CONTEXT, seed=4),
        n_distances=2,
        methods=["linear_vocab", "linear_hidden", "fixed_prompt"],
    )
    lens.start(train)
    teacher = torch.zeros(len(held), 2, model.d_vocab)

    def precision(method, mode, layer):
        top = likeliest(lens.predictions(method, mode, layer, held))
        return score(top, held.tokens, teacher).within[..., 0].float().mean(0).tolist()

    for layer in range(len(lens.hooks)):
        # A chain of few states is linear in their one-hot embeddings: least squares onto its logits find it.
        assert precision("linear_vocab", "blind", layer)[0] == pytest.approx(best[0], abs=POINTS)
        for method in ("linear_vocab", "linear_hidden", "fixed_prompt"):
            assert precision(method, "blind", layer)[1] < best[1] + POINTS
        # Fed the token in between, an order-1 model needs nothing else, whatever context it stands in.
        assert precision("fixed_prompt", "fed", layer)[1] == pytest.approx(fed, abs=POINTS)
    assert precision("fixed_prompt", "fed", NOWHERE)[0] < best[0] - 5 * POINTS


@pytest.mark.slow
def test_on_a_learnt_order_2_source_every_arm_stands_between_its_bigram_and_its_optimum():
    source = Markov.drawn(6, concentration=0.2, seed=0)
    model, _ = learns(source, n_steps=800)
    lengths = (10, 13, 16, 19)
    train = _within(source, _sampled(model, source.rows(6000, 20, seed=2), seed=2, lengths=lengths))
    held = _within(source, _sampled(model, source.rows(4000, 20, seed=3), seed=3, lengths=lengths))
    lens = FutureLens(model, contexts=source.rows(4, N_CONTEXT, seed=4), n_distances=2)
    lens.start(train)
    prompts, maps = list(lens.learned.parameters()), [*lens.linear_vocab.parameters(), *lens.linear_hidden.parameters()]
    optimiser = torch.optim.AdamW([{"params": prompts, "lr": 2e-2}, {"params": maps, "lr": 2e-3}])
    batches = ContinuationBatches(train, batch_size=32, seed=0)
    for _ in range(400):
        optimiser.zero_grad()
        lens.losses(next(batches)).loss.backward()
        optimiser.step()
    counted = CountedArms.of(source.rows(3000, 24, seed=5).tolist(), n_distances=2, vocab_size=model.d_vocab)
    table = measure_table(lens.requires_grad_(False), held, counted=counted, decoding="sampled")

    def best(arm, mode):
        return table.best(arm, mode, 1).precision[0].value

    blind, fed = source.best_blind(held.last), source.best_fed(held.last, held.tokens[:, 0])
    rows = [row for row in table.rows if row.distance == 1]
    found = {(row.arm, row.mode, row.hook): row.precision[0].value for row in rows}
    print({key: round(value, 3) for key, value in found.items()}, blind, fed)
    assert all(value < {"blind": blind, "fed": fed}[key[1]] + POINTS for key, value in found.items())
    for arm in (LINEAR_VOCAB, LINEAR_HIDDEN):
        assert best(arm, "blind") > best(BIGRAM, "blind") + POINTS
    assert best(LEARNED, "fed") > best(BIGRAM, "fed") + POINTS
    assert best(LEARNED, "fed") > best(LEARNED_ALONE, "fed") + POINTS
    assert best(FIXED_ALONE, "fed") < best(LEARNED, "fed")
    for hook in lens.hooks:
        # Half a point of slack: at the last layer neither prompt's run hears the state.
        assert found[LEARNED, "fed", hook] >= found[FIXED, "fed", hook] - 0.005
    assert best(ITSELF, "fed") == pytest.approx(fed, abs=POINTS)
