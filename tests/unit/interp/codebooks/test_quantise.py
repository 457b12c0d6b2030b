"""A bottleneck of codes against its formulas; the traps of the reference implementation."""

import pytest
import torch
from torch.nn import functional as F

from interp.codebooks import quantise
from interp.codebooks.dead_codes import dead_codes, replace_dead
from interp.codebooks.initial import start_norm, start_quantiser
from interp.codebooks.quantise import Quantiser, reconstruction_loss
from interp.errors import ConfigError


def _quantiser(k: int = 3, n_groups: int = 2, combine: str = "sum") -> Quantiser:
    torch.manual_seed(0)
    quantiser = Quantiser(12, n_codes=9, k=k, n_groups=n_groups, combine=combine)
    with torch.no_grad():
        quantiser.weight.normal_(1.0, 0.3)
        quantiser.bias.normal_(0.0, 0.3)
        # Lengths differ, so that cosine and distance disagree.
        quantiser.codes.mul_(torch.rand(n_groups, 9, 1) * 4 + 0.1)
    return quantiser


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("combine", ["sum", "mean"])
def test_the_output_is_the_sum_of_the_codes_of_largest_cosine(k, combine):
    quantiser, x = _quantiser(k, combine=combine), torch.randn(2, 5, 12)
    found = quantiser(x)
    for b in range(2):
        for t in range(5):
            for g in range(2):
                part = x[b, t, 6 * g : 6 * g + 6]
                normed = (part - part.mean()) / (part.var(unbiased=False) + 1e-5).sqrt()
                normed = normed * quantiser.weight[g] + quantiser.bias[g]
                cosine = [float(F.cosine_similarity(normed, code, dim=0).detach()) for code in quantiser.codes[g]]
                best = sorted(range(9), key=lambda i: -cosine[i])[:k]
                assert found.ids[b, t, g].tolist() == best
                expected = quantiser.codes[g, best].sum(0) / (k if combine == "mean" else 1)
                torch.testing.assert_close(found.output[b, t, 6 * g : 6 * g + 6], expected)


def test_the_choice_is_by_cosine_and_not_by_distance():
    quantiser = Quantiser(2, n_codes=2)
    with torch.no_grad():
        # LayerNorm of two columns gives (1, -1) or (-1, 1).
        quantiser.codes.copy_(torch.tensor([[[9.0, -9.0], [0.9, -0.5]]]))
    ids = quantiser(torch.tensor([[[3.0, 1.0]]])).ids
    assert ids.item() == 0
    distance = (quantiser.codes[0] - torch.tensor([1.0, -1.0])).norm(dim=1)
    assert distance.argmin().item() == 1


def test_lengths_of_codes_do_not_change_the_choice():
    quantiser, x = _quantiser(), torch.randn(4, 7, 12)
    before = quantiser(x).ids
    with torch.no_grad():
        quantiser.codes.mul_(torch.rand(2, 9, 1) + 0.5)
    assert torch.equal(quantiser(x).ids, before)


@pytest.mark.parametrize("k", [1, 3])
def test_ranking_in_turns_is_ranking_at_once_and_no_turn_takes_more_than_it_may(k, monkeypatch):
    quantiser, normed = _quantiser(k), torch.randn(5, 7, 2, 6)
    whole, sizes, best = quantiser.nearest(normed), [], Quantiser._best

    def noted(self, flat, unit):
        sizes.append(flat.shape[1] * self.n_groups * self.n_codes * 4)
        return best(self, flat, unit)

    monkeypatch.setattr(Quantiser, "_best", noted)
    # Four tokens of 2 × 9 similarities; 35 tokens leave three for the last turn.
    monkeypatch.setattr(quantise, "SIMILARITY_BYTES", 4 * 2 * 9 * 4 + 5)
    assert torch.equal(quantiser.nearest(normed), whole)
    assert sizes == [288] * 8 + [216]
    # A token that alone is more than may be held is still ranked.
    monkeypatch.setattr(quantise, "SIMILARITY_BYTES", 1)
    assert torch.equal(quantiser.nearest(normed), whole)
    assert quantiser.nearest(normed[:0]).shape == (0, 7, 2, k)


def test_sum_and_mean_agree_for_one_code():
    x = torch.randn(2, 4, 12)
    assert torch.equal(_quantiser(1, combine="sum")(x).output, _quantiser(1, combine="mean")(x).output)


def test_the_gradient_passes_straight_through_to_the_input():
    quantiser, x = _quantiser(), torch.randn(2, 4, 12, requires_grad=True)
    direction = torch.randn(2, 4, 12)
    (through,) = torch.autograd.grad((quantiser(x).output * direction).sum(), x)
    (normed,) = torch.autograd.grad((quantiser.normalise(x).flatten(-2) * direction).sum(), x)
    torch.testing.assert_close(through, normed)


def test_codes_get_the_gradient_of_what_follows_where_they_are_active():
    quantiser, x, direction = _quantiser(k=2), torch.randn(2, 4, 12), torch.randn(2, 4, 12)
    found = quantiser(x)
    (gradient,) = torch.autograd.grad((found.output * direction).sum(), quantiser.codes)
    expected = torch.zeros_like(quantiser.codes)
    for g in range(2):
        for j in range(2):
            expected[g].index_add_(0, found.ids[:, :, g, j].flatten(), direction[:, :, 6 * g : 6 * g + 6].flatten(0, 1))
    torch.testing.assert_close(gradient, expected)


def test_the_reconstruction_loss_moves_codes_only_and_is_the_mean_square():
    quantiser, x = _quantiser(), torch.randn(2, 4, 12, requires_grad=True)
    found = quantiser(x)
    loss = reconstruction_loss(found)
    expected = (found.output - quantiser.normalise(x).flatten(-2)).square().mean()
    torch.testing.assert_close(loss, expected)
    gradients = torch.autograd.grad(loss, [quantiser.codes, x, quantiser.weight], allow_unused=True)
    assert gradients[0].abs().sum() > 0
    assert gradients[1] is None
    assert gradients[2] is None


def test_tokens_that_are_not_kept_weigh_nothing():
    quantiser, x = _quantiser(), torch.randn(2, 4, 12)
    keep = torch.tensor([[True, True, False, True], [True, False, False, False]])
    kept = quantiser(x[keep][None])
    torch.testing.assert_close(reconstruction_loss(quantiser(x), keep), reconstruction_loss(kept))


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="groups"):
        Quantiser(10, n_codes=4, n_groups=3)
    with pytest.raises(ConfigError, match="k: got 5"):
        Quantiser(10, n_codes=4, k=5)


def test_dead_codes_are_put_at_activations_and_forget_their_momentum():
    quantiser = _quantiser(k=1)
    optimiser = torch.optim.AdamW(quantiser.parameters(), lr=1e-2)
    x = torch.randn(2, 3, 12)
    found = quantiser(x)
    found.output.square().sum().backward()
    optimiser.step()
    quantiser.count(found.ids.flatten(0, 1))
    dead = dead_codes(quantiser)
    assert dead.any()
    assert not dead.all()
    alive_before, momentum = quantiser.codes[~dead].clone(), optimiser.state[quantiser.codes]["exp_avg"]
    assert replace_dead(quantiser, found.normed.flatten(0, 1), optimiser) == int(dead.sum())
    assert torch.equal(quantiser.codes[~dead], alive_before)
    rows = found.normed.flatten(0, 1)
    for g, c in dead.nonzero().tolist():
        assert (rows[:, g] == quantiser.codes[g, c]).all(1).any()
        assert momentum[g, c].abs().max() == 0
    assert momentum[~dead].abs().sum() > 0
    assert quantiser.hits.sum() == 0


@pytest.mark.parametrize("scaled", [False, True])
def test_clusters_that_are_there_are_found(scaled):
    torch.manual_seed(1)
    centres = F.layer_norm(torch.randn(4, 8), (8,))
    x = centres.repeat(50, 1) + 0.01 * torch.randn(200, 8)
    quantiser = Quantiser(8, n_codes=30)
    start_quantiser(quantiser, x, seed=0, scaled=scaled)
    found = quantiser(x[None])
    assert reconstruction_loss(found) < 1e-3
    # Unscaled, the norm is still the plain one.
    assert torch.equal(quantiser.weight, torch.ones(1, 8)) is not scaled
    # Each centre's own cluster: tokens of one centre never share a code with those of another.
    labels = torch.arange(200) % 4
    for code in found.ids.unique().tolist():
        assert labels[found.ids.flatten() == code].unique().numel() == 1


def test_the_norm_starts_at_the_scale_of_the_activations():
    torch.manual_seed(2)
    drawn = torch.randn(400, 2, 8)
    plain = (drawn - drawn.mean(2, keepdim=True)) / drawn.std(2, correction=0, keepdim=True)
    # One scale and one offset a head leave what the norm makes of it as it was.
    x = (plain * torch.tensor([0.2, 3.0])[:, None] + torch.tensor([-1.0, 4.0])[:, None]).flatten(1)
    quantiser = Quantiser(16, n_codes=3, n_groups=2)
    start_norm(quantiser, x)
    torch.testing.assert_close(quantiser.normalise(x).flatten(1), x, rtol=0, atol=1e-4)


def test_the_norms_start_is_the_least_squares_fit():
    torch.manual_seed(3)
    x = torch.randn(300, 8).exp() * torch.linspace(0.1, 2, 8)
    quantiser = Quantiser(8, n_codes=3, n_groups=2)
    start_norm(quantiser, x)
    plain = F.layer_norm(x.unflatten(1, (2, 4)), (4,))
    left = x.unflatten(1, (2, 4)) - quantiser.normalise(x)
    # Normal equations: what is left has no mean, and none of the regressor in it.
    zero = torch.zeros(2, 4)
    torch.testing.assert_close(left.mean(0), zero, rtol=0, atol=1e-5)
    torch.testing.assert_close((left * plain).mean(0), zero, rtol=0, atol=1e-5)
