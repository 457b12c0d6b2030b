import torch
from torch import nn

from interp.pretraining.optimiser import MuonAdam, orthogonalise


def test_orthogonalising_keeps_singular_vectors_and_evens_singular_values():
    u, _, v = torch.linalg.svd(torch.randn(3, 6, 10, dtype=torch.float64), full_matrices=False)
    spread = torch.tensor([9.0, 4.0, 2.0, 1.0, 0.5, 0.2], dtype=torch.float64)
    for x in (u * spread @ v, (u * spread @ v).mT):
        u_x, _, v_x = torch.linalg.svd(x, full_matrices=False)
        core = u_x.mT @ orthogonalise(x) @ v_x.mT
        values = core.diagonal(dim1=-2, dim2=-1)
        torch.testing.assert_close(core, torch.diag_embed(values), rtol=0, atol=1e-10)
        assert float(values.min()) > 0.6
        assert float(values.max()) < 1.3


def test_adam_part_is_adam():
    ours, theirs = nn.Parameter(torch.randn(7)), nn.Parameter(torch.empty(7))
    theirs.data.copy_(ours.data)
    mine = MuonAdam([], [ours], lr=0.01, adam_lr_scale=1.0, weight_decay=0.5)
    reference = torch.optim.Adam([theirs], lr=0.01, betas=(0.9, 0.98), eps=1e-8)
    for _ in range(5):
        gradient = torch.randn(7)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        mine.step()
        reference.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def test_matrix_update_has_the_announced_size_and_decay():
    matrix = nn.Parameter(torch.randn(8, 12))
    before = matrix.detach().clone()
    matrix.grad = torch.randn(8, 12)
    MuonAdam([matrix], [], lr=0.1, adam_lr_scale=1.0, weight_decay=0.5).step()
    update = matrix.detach() - before * (1 - 0.1 * 0.5)
    assert 0.7 < float(update.square().mean().sqrt()) / (0.2 * 0.1) < 1.3
