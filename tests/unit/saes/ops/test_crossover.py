"""The dense path is taken by the measured table."""

import pytest
import torch

from interp.code import Code
from saes import SAEConfig, create_sae
from saes.ops import crossover
from saes.ops.crossover import Crossing, crossover_share
from saes.ops.dense import dense_pays

TABLE = (Crossing(64, 100, 0.5), Crossing(1024, 100, 0.1), Crossing(1024, 10_000, 0.02))


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(crossover.TABLES, "cpu", TABLE)


def code_of(n_active: int, n_rows: int = 3, f: int = 100) -> Code:
    """A code with that many features active in each token."""
    acts = torch.zeros(n_rows, f)
    acts[:, :n_active] = 1
    return Code.from_dense(acts)


@pytest.mark.parametrize(("d", "at"), [(64, 50), (100, 50), (700, 10), (4096, 10)])
def test_dense_pays_beyond_the_share_of_the_nearest_size(d: int, at: int):
    assert not dense_pays(code_of(at), d)
    assert dense_pays(code_of(at + 1), d)


@pytest.mark.parametrize(
    ("d", "f", "share"),
    # 256 is as far from 64 as from 1024: the first wins; both sizes count alike, as ratios.
    [(64, 100, 0.5), (255, 100, 0.5), (256, 100, 0.5), (257, 100, 0.1), (1024, 999, 0.1), (1024, 1001, 0.02)],
)
def test_nearest_by_ratio(d: int, f: int, share: float):
    assert crossover_share("cpu", d, f) == share


def test_an_sae_asks_with_its_own_width(monkeypatch: pytest.MonkeyPatch):
    sae = create_sae(SAEConfig(architecture="topk", d_sae=100, k=20), 1024, hooks_in=("h",))
    asked = []
    monkeypatch.setattr("saes.base.dense_pays", lambda code, d: asked.append((code.d_sae, d)) or False)
    x = torch.zeros(2, 1024)
    sae.reconstruct(x, x, (100,), (1.0,))
    assert asked == [(100, 1024)]


def test_measured_shares_are_shares():
    measured = (*crossover.crossings(crossover.CPU_SHARES), *crossover.TABLES["cuda"])
    assert all(0 < at.share < 1 for at in measured)
