"""SAEs trained on compiled programs, scored against the dimensions that the compiler gave a meaning."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from interp.code import ActivationBatch
from interp.hooks import capture
from interp.loop import update
from saes import SAE, SAEConfig, create_sae
from saes.matching import detection, match_by_cosine
from saes.optimiser import make_optimiser
from tests.compiled_programs import Program, compiled

N_STEPS, LR = 800, 3e-3


def token_rows(program: Program, n: int) -> Tensor:
    """Random inputs of the program's alphabet, as long as it takes."""
    words = [i for word, i in program.words.items() if word not in ("BOS", "compiler_pad", "PAD")]
    length = max(map(len, program.ids))
    drawn = torch.tensor(words)[torch.randint(len(words), (n, length - 1))]
    return torch.cat([torch.full((n, 1), program.words["BOS"]), drawn], dim=1)


def activations(program: Program, hook: str, n: int) -> Tensor:
    """Activations of all tokens but BOS."""
    ids = token_rows(program, n)
    return capture(program.model, ids, [hook], torch.ones_like(ids))[hook][:, 1:].flatten(0, 1)


def varying(x: Tensor) -> list[int]:
    """Dimensions that are now active and now not: what a code can tell."""
    share = (x.abs() > 1e-3).double().mean(0)
    return ((share > 0.005) & (share < 0.995)).nonzero()[:, 0].tolist()


def trained(x: Tensor, *, d_sae: int, k: int, seed: int, n_steps: int = N_STEPS) -> SAE:
    """A BatchTopK SAE of these activations."""
    generator = torch.Generator().manual_seed(seed)
    config = SAEConfig(architecture="batch_topk", d_sae=d_sae, k=k)
    sae = create_sae(config, x.shape[1], hooks_in=("x",), token_budget=256 * max(n_steps, 1))
    with torch.no_grad():
        sae.wiring.start(sae, x[:1000], None, normalise=True)
        sae.wiring.tie(sae, generator, x[:1000], None)
    optimiser = make_optimiser(sae, LR)
    none = torch.zeros(256, dtype=torch.int64)
    for step in range(n_steps):
        rows = torch.randint(x.shape[0], (256,), generator=generator)
        lr = LR * min(1.0, 2 * (1 - step / n_steps))
        report = sae.losses(ActivationBatch({"x": x[rows]}, none, none, none))
        update(sae, optimiser, report, lr=lr, clip_norm=1.0, step=step + 1)
    return sae


@torch.no_grad()
def scores(sae: SAE, x: Tensor, dims: list[int]) -> tuple[float, float]:
    """Mean cosine and mean F1 of the latents matched with the compiled dimensions."""
    truth = torch.eye(x.shape[1])[dims]
    matching = match_by_cosine(truth, sae.directions(torch.arange(sae.d_sae)))
    code = sae.encode(x).dense()[:, matching.latent] > 0
    found = detection(code, x[:, dims].abs() > 1e-3)
    return float(matching.cosine.mean()), float(found.f1.mean())


@pytest.fixture
def program(data_folder: Path, request: pytest.FixtureRequest) -> Iterator[Program]:
    with compiled(data_folder / "models" / "tracr", request.param) as found:
        yield found


@pytest.mark.parametrize("program", ["sort_unique"], indirect=True)
def test_an_sae_fires_with_the_compiled_dimensions(program: Program) -> None:
    x, held_out = (activations(program, "blocks.0.hook_resid_pre", n) for n in (2000, 400))
    dims = varying(x)
    k = round(float((x[:, dims].abs() > 1e-3).sum(1).double().mean()))
    cosine, f1 = scores(trained(x, d_sae=len(dims), k=k, seed=0), held_out, dims)
    null_cosine, null_f1 = scores(trained(x, d_sae=len(dims), k=k, seed=0, n_steps=0), held_out, dims)
    assert f1 > 0.8 > null_f1 + 0.25
    # One of a variable's values is always on, so that directions are found about the values' mean: not 1.
    assert cosine > 0.6 > null_cosine + 0.25
