"""The map keeps neighbourhoods, says how many, and is the same every time."""

import numpy as np
import pytest
import torch

from dashboards import tsne
from dashboards.decoder_layout import DecoderLayout, decoder_layout, nearest, neighbours_kept, principal_plane
from dashboards.layout_file import LAYOUT_FILE, load_layout, save_layout
from interp.errors import ArtifactError


@pytest.fixture(scope="module")
def clusters():
    """Twelve tight bundles of directions in 40 dimensions."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(12, 40, generator=generator)
    return (centres.repeat_interleave(20, 0) + 0.2 * torch.randn(240, 40, generator=generator)) * 3


@pytest.fixture(scope="module")
def layout(clusters):
    return decoder_layout(clusters, torch.arange(240))


def test_bundles_stand_apart(layout):
    places = np.stack([layout.x, layout.y], axis=1).reshape(12, 20, 2)
    centres = places.mean(1)
    spread = np.linalg.norm(places - centres[:, None], axis=2).max()
    between = np.linalg.norm(centres[:, None] - centres[None], axis=2)[~np.eye(12, dtype=bool)].min()
    assert between > spread


def test_it_keeps_more_neighbours_than_components_and_chance(layout):
    assert layout.kept > layout.kept_by_pca > layout.kept_by_chance == pytest.approx(10 / 239)


def test_the_same_directions_and_seed_give_the_same_map(clusters, layout):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    again = decoder_layout(clusters, torch.arange(240))
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)
    assert np.array_equal(again.x, layout.x)
    assert np.array_equal(again.y, layout.y)
    longer = decoder_layout(clusters * torch.linspace(1, 9, 240)[:, None], torch.arange(240))
    assert longer.kept == pytest.approx(layout.kept, abs=0.1)


def test_dead_features_have_no_place(clusters):
    alive = torch.arange(240)[torch.arange(240) % 3 > 0]
    found = decoder_layout(clusters, alive)
    assert np.array_equal(np.flatnonzero(np.isfinite(found.x)), alive.numpy())
    assert np.array_equal(np.isnan(found.x), np.isnan(found.y))


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_few_features_have_a_map_too(clusters, n):
    found = decoder_layout(clusters, torch.arange(n))
    assert np.isfinite(found.x).sum() == n


def test_nearest_is_the_sorted_product():
    points = torch.randn(50, 6, generator=torch.Generator().manual_seed(1))
    product = (points @ points.T).fill_diagonal_(-torch.inf)
    values, ids = nearest(points, 7)
    assert torch.allclose(values, product.sort(1, descending=True).values[:, :7])
    assert torch.allclose(product.gather(1, ids), values)


def test_places_keep_themselves():
    places = torch.randn(60, 2, generator=torch.Generator().manual_seed(2))
    true = torch.cdist(places, places).fill_diagonal_(torch.inf).topk(10, largest=False).indices
    assert neighbours_kept(true, places) == 1.0
    assert neighbours_kept(true, places * -3 + 1) == 1.0


def test_components_of_a_plane_are_the_plane():
    plane = torch.randn(30, 2, generator=torch.Generator().manual_seed(3))
    basis = torch.linalg.qr(torch.randn(9, 2, generator=torch.Generator().manual_seed(4))).Q
    found, plane = principal_plane(plane @ basis.T), plane - plane.mean(0)
    assert torch.allclose(found @ found.T, plane @ plane.T, atol=1e-4)


def test_repulsion_of_all_pairs_is_the_gradients_second_term(monkeypatch):
    y = torch.randn(20, 2, generator=torch.Generator().manual_seed(5), dtype=torch.float64).requires_grad_()
    kernel = 1 / (1 + torch.cdist(y, y).square())
    (gradient,) = torch.autograd.grad((kernel.sum() - 20).log(), y)
    found = tsne._repulsion(y.detach().float(), torch.Generator())
    assert torch.allclose(found.double(), -gradient / 4, atol=1e-5)


def test_a_layout_survives_the_disk(tmp_path, layout):
    save_layout(tmp_path, layout)
    found = load_layout(tmp_path, 240)
    assert isinstance(found, DecoderLayout)
    assert found.kept == pytest.approx(layout.kept, rel=1e-4)
    assert np.allclose(found.x, layout.x, rtol=1e-4)
    with pytest.raises(ArtifactError, match="240 places; expected 64"):
        load_layout(tmp_path, 64)
    (tmp_path / LAYOUT_FILE).write_text("[]")
    with pytest.raises(ArtifactError, match=LAYOUT_FILE):
        load_layout(tmp_path, 240)
    (tmp_path / LAYOUT_FILE).unlink()
    assert load_layout(tmp_path, 240) is None
