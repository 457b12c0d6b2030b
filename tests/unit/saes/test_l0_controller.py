"""The controller of the penalty's weight reaches the wanted number of active features."""

import pytest
import torch

from interp.loop import Schedule, update
from saes import SAEConfig, create_sae, initialise
from saes.optimiser import make_optimiser
from tests.steps import batch_of, planted

D, F, K, BATCH, STEPS = 32, 128, 8, 256, 600
LAST = 80
"""Steps over which L0 is averaged at the end."""


def trained_l0(architecture: str, optimiser: str = "adam", **config: object) -> float:
    settings = {"architecture": architecture, "d_sae": F, "k": K, "l0_control": True, **config}
    sae = create_sae(SAEConfig(**settings), D, hooks_in=("h",), token_budget=STEPS * BATCH)
    pool = planted(16 * BATCH, D)
    initialise(sae, pool[:2000], seed=0)
    moved, schedule, counts = make_optimiser(sae, 3e-3, optimiser), Schedule(lr=3e-3), []
    for i in range(STEPS):
        rows = torch.randint(len(pool), (BATCH,), generator=torch.Generator().manual_seed(i))
        report = sae.losses(batch_of(pool[rows]))
        update(sae, moved, report, lr=schedule.at(i, STEPS), clip_norm=1.0, step=i + 1)
        counts.append(float(report.terms["l0"]))
    return sum(counts[-LAST:]) / LAST


@pytest.mark.parametrize("start", [None, 1.0])
@pytest.mark.parametrize("architecture", ["standard", "gated", "jumprelu"])
def test_the_wanted_l0_is_reached_within_5_percent(architecture, start):
    assert trained_l0(architecture, l1_coefficient=start) == pytest.approx(K, rel=0.05)


@pytest.mark.parametrize(
    ("architecture", "more"),
    [
        ("jumprelu", {"l0_penalty": "tanh"}),
        ("jumprelu", {"optimiser": "muon"}),
        ("standard", {"l0_target": 5.0}),
        ("standard", {"n_prefixes": 3, "nest": True}),
    ],
)
def test_it_is_reached_in_every_form(architecture, more):
    assert trained_l0(architecture, **more) == pytest.approx(more.get("l0_target", K), rel=0.05)


def test_without_control_the_weight_only_warms_up():
    config = SAEConfig(architecture="standard", d_sae=F, k=K, l0_control=False, l1_coefficient=0.6)
    sae = create_sae(config, D, hooks_in=("h",), token_budget=100 * BATCH)
    x = planted(BATCH, D)
    initialise(sae, x, seed=0)
    optimiser, weights = make_optimiser(sae, 3e-3), []
    for i in range(8):
        report = sae.losses(batch_of(x))
        update(sae, optimiser, report, lr=3e-3, clip_norm=1.0, step=i + 1)
        weights.append(float(report.terms["penalty_weight"]))
    # The warm-up is 5% of 100 steps.
    assert weights == pytest.approx([0.12, 0.24, 0.36, 0.48, 0.6, 0.6, 0.6, 0.6])
    assert float(sae.l1) == pytest.approx(0.6)


@pytest.mark.parametrize(("architecture", "grows"), [("standard", True), ("jumprelu", False)])
def test_more_than_wanted_raises_the_weight_and_less_lowers_it(architecture, grows):
    config = SAEConfig(architecture=architecture, d_sae=F, k=2 if grows else 120, penalty_warmup_share=0)
    sae = create_sae(config, D, hooks_in=("h",), token_budget=10**6)
    x = planted(BATCH, D)
    initialise(sae, x, seed=0)
    before = float(sae.penalty_weight(BATCH))
    sae.advance(sae.losses(batch_of(x)))
    assert (float(sae.penalty_weight(BATCH)) > before) == grows
    assert float(sae.penalty_weight(BATCH)) != before
