"""Baselines against what their names promise: computed again without any SAE."""

import numpy as np
import pytest
import torch

from interp.errors import ConfigError, DataError
from saes.baselines import KINDS, fit_baseline
from saes.evaluation import evaluate
from saes.io import load_sae, save_sae
from saes.metrics import VarianceSums
from tests.families import tiny_model
from tests.specimens import HOOK, tiny_stream

HOOKS = (HOOK,)


@pytest.fixture(scope="module")
def x():
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(2000, 12, generator=generator) @ torch.randn(12, 12, generator=generator)
    return mixed * torch.linspace(0.2, 2, 12) + 3


def _fit(kind, x, *, k=4, d_sae=24, seed=0):
    return fit_baseline(kind, x, k=k, d_sae=d_sae, seed=seed, hooks=HOOKS)


@torch.no_grad()
def _ev(baseline, x):
    return VarianceSums.of(x, baseline.sae.decode(baseline.sae.encode(x))).explained_variance


@pytest.mark.parametrize("kind", ["pca", "ica", "neurons"])
def test_all_components_reconstruct_everything(kind, x):
    baseline = _fit(kind, x, k=24)
    assert baseline.sae.d_sae == 24
    assert _ev(baseline, x) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("k", [1, 3, 7])
def test_pca_keeps_of_each_token_its_largest_components(k, x):
    data = x.double().numpy() - x.double().numpy().mean(0)
    _, _, components = np.linalg.svd(data, full_matrices=False)
    strength = np.sort((data @ components.T) ** 2, axis=1)[:, ::-1]
    assert _ev(_fit("pca", x, k=k), x) == pytest.approx(strength[:, :k].sum() / strength.sum(), abs=1e-5)


def test_fewer_features_are_the_components_of_largest_variance(x):
    data = x.double().numpy() - x.double().numpy().mean(0)
    variances = np.linalg.svd(data, compute_uv=False) ** 2
    baseline = _fit("pca", x, k=10, d_sae=10)
    share = variances[:5].sum() / variances.sum()
    assert baseline.sae.d_sae == 10
    assert _ev(baseline, x) == pytest.approx(share, abs=1e-5)
    assert baseline.facts == {"n_components": 5, "kept_variance": pytest.approx(share, abs=1e-5)}


def test_no_rotation_explains_more_than_pca_with_a_few_components(x):
    few = {kind: _ev(_fit(kind, x, k=8, d_sae=8), x) for kind in ("pca", "ica", "random")}
    assert few["pca"] == pytest.approx(few["ica"], abs=1e-5)
    assert few["random"] < few["pca"]
    assert _ev(_fit("random", x), x) < _ev(_fit("pca", x), x)


def test_ica_finds_independent_sources_and_what_they_write():
    generator = torch.Generator().manual_seed(1)
    sources = torch.distributions.Laplace(0.0, 1.0).sample((20_000, 6))
    mixing = torch.randn(6, 6, generator=generator)
    baseline = _fit("ica", sources @ mixing + 1, k=12, d_sae=12)
    assert baseline.facts["converged"]
    cosine = torch.nn.functional.normalize(mixing, dim=1) @ baseline.sae.directions(torch.arange(12)).detach().T
    assert cosine.argmax(1).unique().numel() == 6
    assert float(cosine.amax(1).min()) > 0.995
    # Both signs of each source, and no feature twice.
    assert torch.allclose(cosine.amax(1), -cosine.amin(1))


def test_kmeans_explains_what_its_inertia_leaves():
    from sklearn.cluster import MiniBatchKMeans

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, 5, generator=generator)[torch.arange(1600) % 8] * 4 + torch.randn(1600, 5, generator=generator)
    baseline = _fit("kmeans", x, d_sae=8, k=5)
    inertia = -MiniBatchKMeans(8, random_state=0, batch_size=4096, n_init=1).fit(x.numpy()).score(x.numpy())
    assert _ev(baseline, x) == pytest.approx(1 - inertia / float((x - x.mean(0)).square().sum()), abs=1e-5)


def test_kmeans_takes_the_nearest_centroid_with_value_one(x):
    sae = _fit("kmeans", x, d_sae=9).sae
    centroids = sae.W_dec + sae.b_dec
    code = sae.encode(x)
    assert torch.equal(code.features, torch.cdist(x.double(), centroids.double()).argmin(1))
    assert (code.values == 1).all()
    torch.testing.assert_close(sae.decode(code), centroids[code.features])
    assert not sae.decode(sae.encode(x.requires_grad_())).isnan().any()
    x.requires_grad_(False)


def test_the_neurons_are_the_columns_about_their_means(x):
    code = _fit("neurons", x, k=3).sae.encode(x).dense()
    deviation = (x - x.mean(0)).abs()
    kept = deviation * (deviation >= deviation.topk(3, dim=1).values[:, 2:])
    torch.testing.assert_close(code[:, :12] + code[:, 12:], kept, rtol=1e-4, atol=1e-4)


def test_random_directions_have_the_best_gain(x):
    sae = _fit("random", x).sae
    ev = {}
    for factor in (0.95, 1.0, 1.05):
        other = _fit("random", x)
        with torch.no_grad():
            other.sae.W_enc.mul_(factor)
        ev[factor] = _ev(other, x)
    assert ev[1.0] > max(ev[0.95], ev[1.05])
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(24))
    assert not torch.equal(_fit("random", x, seed=1).sae.W_dec, sae.W_dec)


def test_directions_without_variance_are_left_out():
    flat = torch.randn(500, 3) @ torch.randn(3, 6)
    for kind in ("pca", "ica"):
        baseline = _fit(kind, flat, k=6)
        assert baseline.facts["n_components"] == 3
        assert _ev(baseline, flat) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_a_baseline_gives_the_same(kind, x, tmp_path):
    sae = _fit(kind, x, d_sae=20).sae
    save_sae(tmp_path / "sae", sae, {"baseline": kind})
    back = load_sae(tmp_path / "sae")
    assert type(back) is type(sae)
    assert torch.equal(back.encode(x).dense(), sae.encode(x).dense())
    assert torch.equal(back.decode(back.encode(x)), sae.decode(sae.encode(x)))
    # What SAELens would take for a TopK SAE of k = 1 it shall not find.
    assert (tmp_path / "sae" / "cfg.json").exists() == (kind != "kmeans")


@pytest.mark.parametrize("kind", KINDS)
def test_every_baseline_is_evaluated_as_an_sae_is(kind, tmp_path):
    model = tiny_model("llama")
    stream = tiny_stream(tmp_path, model)
    sample = torch.randn(200, 16)
    result = evaluate(model, _fit(kind, sample, k=2, d_sae=20).sae, stream, n_tokens=200)
    assert result.l0 == (1.0 if kind == "kmeans" else 2.0)
    assert result.ce.delta_interval[0] < result.ce.delta < result.ce.delta_interval[1]


def test_what_cannot_be_fitted_is_told(x):
    with pytest.raises(ConfigError, match="pca"):
        _fit("pcs", x)
    with pytest.raises(ConfigError, match="two signs"):
        _fit("pca", x, d_sae=1)
    with pytest.raises(ConfigError, match="give k at most d_sae"):
        _fit("pca", x, k=25)
    with pytest.raises(DataError, match="centroids"):
        _fit("kmeans", x[:30], d_sae=31)
    with pytest.raises(DataError, match="twice as many"):
        _fit("pca", x[:20])
    with pytest.raises(DataError, match="do not vary"):
        _fit("pca", torch.ones(100, 4))
