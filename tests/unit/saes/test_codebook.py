"""Codebook SAEs: nearest codes by brute force, straight-through gradients by autograd, variants that must coincide."""

import math
from itertools import pairwise

import pytest
import torch
from torch.nn.functional import normalize

from interp.checkpoints import restore_state, take_state
from interp.code import FeatureDictionary
from interp.errors import ConfigError
from saes import SAEConfig, create_sae, load, save_sae
from saes.codebook import nearest_codes
from saes.initialise import initialise
from saes.null_arms import permute_decoder
from saes.resampling import resample_codes
from saes.train_config import TrainConfig
from tests.steps import batch_of, new_sae, optimiser_of, planted, step

SIZES = {
    "plain": {},
    "grouped": {"codebook_variant": "grouped", "n_groups": 2},
    "residual": {"codebook_variant": "residual", "n_stages": 4},
    "latent": {"codebook_variant": "latent", "k": 6, "levels": 8},
}
VARIANTS = tuple(SIZES)
COSINE = ("plain", "grouped", "residual")


def codebook(variant="plain", **config):
    return new_sae("codebook", **{**SIZES[variant], **config})


def ranked(x, codes, k):
    """The k codes of largest cosine, by looking at all of them."""
    cosine = (x @ codes.t()) / (x.norm(dim=1, keepdim=True) * codes.norm(dim=1))
    return cosine.sort(dim=1, descending=True, stable=True).indices[:, :k]


@pytest.mark.parametrize("variant", VARIANTS)
def test_is_a_feature_dictionary_whose_codes_are_on_or_off(variant):
    sae = codebook(variant)
    code = sae.encode(planted(100))
    assert isinstance(sae, FeatureDictionary)
    assert bool((code.values == 1).all())
    assert bool((code.row_offsets.diff() == sae.config.k).all())
    assert all(a < b for row in code.features.view(100, -1).tolist() for a, b in pairwise(row))


def test_one_code_is_vector_quantisation():
    sae, x = codebook(k=1), planted(200)
    centred = sae.centred(x)
    nearest = ranked(centred, sae.W_dec.detach(), 1)[:, 0]
    assert torch.equal(sae.encode(x).features, nearest)
    expected = (sae.W_dec.detach()[nearest] + sae.b_dec) / sae.input_scale
    torch.testing.assert_close(sae.decode(sae.encode(x)).detach(), expected)


@pytest.mark.parametrize("k", [1, 3, 7])
def test_nearest_codes_are_those_of_brute_force_where_few_cosines_are_positive(k):
    codes = normalize(torch.randn(8, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    x = torch.randn(300, 5, generator=torch.Generator().manual_seed(1)) - 2 * codes.mean(0)
    assert bool(((x @ codes.t() > 0).sum(1) < k).any()) or k == 1
    found, expected = nearest_codes(x, codes, k), ranked(x, codes, k).sort(dim=1).values
    assert torch.equal(found.codes, expected)
    torch.testing.assert_close(found.products, (x @ codes.t()).gather(1, expected))


def test_all_cosines_negative_still_gives_the_nearest():
    codes = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    assert nearest_codes(torch.tensor([[-1.0, -0.1]]), codes, 1).codes.tolist() == [[1]]


@pytest.mark.parametrize(("variant", "one"), [("grouped", "n_groups"), ("residual", "n_stages")])
@pytest.mark.parametrize("code_sum", ["sum", "mean"])
def test_one_group_or_stage_is_the_plain_codebook(variant, one, code_sum):
    plain = codebook(code_sum=code_sum)
    other = codebook(codebook_variant=variant, code_sum=code_sum, **{one: 1})
    optimisers = [optimiser_of(sae) for sae in (plain, other)]
    for i in range(6):
        for sae, optimiser in zip((plain, other), optimisers, strict=True):
            step(sae, optimiser, batch_of(planted(128, seed=i)))
    assert torch.equal(plain.W_dec, other.W_dec)
    x = planted(64, seed=99)
    assert torch.equal(plain.encode(x).features, other.encode(x).features)


@pytest.mark.parametrize("variant", COSINE)
@pytest.mark.parametrize("code_sum", ["sum", "mean"])
@pytest.mark.parametrize("k", [4, 20])
def test_gradients_are_those_of_the_straight_through_estimator(variant, code_sum, k):
    sae = codebook(variant, code_sum=code_sum, k=k, dtype=torch.float64)
    x = planted(150, dtype=torch.float64)
    report = sae.losses(batch_of(x))
    report.loss.backward()
    # x̂ = b + Σ codes + (a - sg(a)), a = x - b: the twin that autograd differentiates.
    codes, centre = (t.detach().clone().requires_grad_() for t in (sae.W_dec, sae.b_dec))
    scaled = (x * sae.input_scale).requires_grad_()
    a = scaled - centre
    chosen = sae.chosen(a.detach())
    n_each = k / sae.config.n_parts
    quantised = codes[chosen].sum(1) / (n_each if code_sum == "mean" else 1.0)
    x_hat = centre + quantised + (a - a.detach())
    loss = (scaled.detach() - x_hat).square().sum() / 150
    loss.backward()
    torch.testing.assert_close(report.loss, loss)
    sae.project_gradients()
    if variant == "grouped":
        codes.grad[:24, 8:], codes.grad[24:, :8] = 0, 0
    torch.testing.assert_close(sae.W_dec.grad, codes.grad)
    # The input's gradient is the reconstruction's, and the centre's is none.
    torch.testing.assert_close(scaled.grad, 2 * (x_hat - scaled).detach() / 150)
    torch.testing.assert_close(centre.grad, torch.zeros_like(centre))
    assert [name for name, parameter in sae.named_parameters() if parameter.grad is not None] == ["W_dec"]


def test_gradients_of_latent_quantisation_are_those_of_the_straight_through_estimator():
    sae = codebook("latent", commitment=0.3, dtype=torch.float64)
    x = planted(150, dtype=torch.float64)
    report = sae.losses(batch_of(x))
    report.loss.backward()
    a = (x * sae.input_scale - sae.b_dec).detach()
    encoder, decoder, values = (t.detach().clone().requires_grad_() for t in (sae.encoder, sae.decoder, sae.values))
    z = a @ encoder.t()
    level = (z[:, :, None] - values).abs().argmin(2)
    v = torch.stack([values[j, level[:, j]] for j in range(6)], dim=1)
    error = (a - (z + (v - z).detach()) @ decoder).square().sum() / 150
    pull = ((z.detach() - v).square().sum() + (z - v.detach()).square().sum()) / 150
    (error + 0.3 * pull).backward()
    for got, expected in ((sae.encoder, encoder), (sae.decoder, decoder), (sae.values, values)):
        assert float(expected.grad.abs().max()) > 0
        torch.testing.assert_close(got.grad, expected.grad)


def test_a_latent_takes_the_nearest_of_its_own_levels():
    sae, x = codebook("latent"), planted(100)
    z = (sae.centred(x) @ sae.encoder.t()).detach()
    code = sae.encode(x)
    latent, level = code.features.view(100, 6) // 8, code.features.view(100, 6) % 8
    assert torch.equal(latent, torch.arange(6).expand(100, 6))
    taken = sae.values.detach()[latent, level]
    assert bool(((z - taken).abs()[:, :, None] <= (z[:, :, None] - sae.values.detach()).abs() + 1e-7).all())
    torch.testing.assert_close(sae.decode(code).detach(), (taken @ sae.decoder + sae.b_dec).detach() / sae.input_scale)


def test_stages_code_what_those_before_leave():
    sae, x = codebook("residual", k=4), planted(80)
    left = sae.centred(x)
    for stage in range(4):
        codes = sae.W_dec.detach()[stage * 12 : (stage + 1) * 12]
        nearest = ranked(left, codes, 1)[:, 0]
        assert torch.equal(sae.encode(x).features.view(80, 4)[:, stage], nearest + 12 * stage)
        left = left - codes[nearest]


def test_groups_are_independent_and_stay_in_their_columns():
    sae = codebook("grouped")
    optimiser = optimiser_of(sae)
    for i in range(5):
        step(sae, optimiser, batch_of(planted(128, seed=i)))
    outside = torch.stack([sae.W_dec[:24, 8:], sae.W_dec[24:, :8]])
    assert not bool(outside.any())
    x = planted(40)
    other = torch.cat([x[:, :8], torch.zeros(40, 8)], dim=1)
    first = [sae.encode(y).features.view(40, 4)[:, :2] for y in (x, other)]
    assert torch.equal(*first)


@pytest.mark.parametrize("variant", VARIANTS)
def test_learns_from_codes_that_were_knocked_about(variant):
    sae = codebook(variant)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in (p for p in sae.parameters() if p.requires_grad):
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    sae.refresh()
    optimiser = optimiser_of(sae)
    errors = [float(step(sae, optimiser, batch_of(planted(256, seed=i))).terms["mse"]) for i in range(60)]
    assert sum(errors[-10:]) < 0.9 * sum(errors[:10])


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_resumed_run_goes_on_byte_for_byte(variant):
    whole, first, second = (codebook(variant) for _ in range(3))
    optimisers = [optimiser_of(sae) for sae in (whole, first, second)]
    source = _Cursor()
    for i in range(40):
        step(whole, optimisers[0], batch_of(planted(256, seed=i)))
    for i in range(20):
        step(first, optimisers[1], batch_of(planted(256, seed=i)))
    state = take_state(first, optimisers[1], source, step=20, n_tokens=20 * 256, metrics_offset=0)
    restore_state(state, second, optimisers[2], source)
    for i in range(20, 40):
        step(second, optimisers[2], batch_of(planted(256, seed=i)))
    assert all(torch.equal(a, second.state_dict()[name]) for name, a in whole.state_dict().items())


class _Cursor:
    def __next__(self):
        raise StopIteration

    def cursor(self):
        return {"at": 0}

    def seek(self, cursor):
        assert cursor == {"at": 0}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("code_sum", ["sum", "mean"])
def test_saved_and_read_it_is_the_same_function_of_raw_activations(variant, code_sum, tmp_path):
    sae, x = codebook(variant, code_sum=code_sum), 1e-2 * planted(90)
    sae.input_scale.fill_(37.0)
    save_sae(tmp_path / "sae", sae, {"model": {}, "data": {}})
    assert not (tmp_path / "sae" / "cfg.json").exists()
    read, facts = load(tmp_path / "sae")
    assert facts.architecture == "codebook"
    code = read.encode(x)
    torch.testing.assert_close(read.decode(code), sae.decode(sae.encode(x)))
    directions = sae.directions(torch.arange(48))
    torch.testing.assert_close(read.directions(torch.arange(48)), directions)
    torch.testing.assert_close(sae.decode(sae.encode(x)), code.dense() @ directions + sae.b_dec / 37)


@pytest.mark.parametrize("variant", VARIANTS)
def test_dead_codes_begin_as_badly_reconstructed_tokens(variant):
    sae = codebook(variant)
    optimiser = optimiser_of(sae)
    for i in range(3):
        step(sae, optimiser, batch_of(planted(256, seed=i)))
    dead = [5, 40]
    sae.tokens_since_fired.zero_()
    sae.tokens_since_fired[dead] = sae.dead_after_tokens
    before, batch = sae.W_dec.clone(), batch_of(planted(256, seed=9))
    assert resample_codes(sae, batch, optimiser) == 2
    assert (sae.W_dec != before).any(dim=1).nonzero()[:, 0].tolist() == dead
    assert sae.tokens_since_fired[dead].tolist() == [0, 0]
    code = sae.encode(batch.acts["h"])
    assert all(bool((code.features == feature).any()) for feature in dead)
    parameter, index = sae.renewed_parameters(torch.tensor(dead))[0]
    assert not bool(optimiser.state[parameter]["exp_avg"][index].any())
    assert bool(optimiser.state[parameter]["exp_avg"].any())


def test_attribution_sees_the_projection_on_each_code():
    sae = codebook(k=1, dtype=torch.float64)
    x = planted(20, dtype=torch.float64).requires_grad_()
    sae.decode(sae.encode(x)).sum().backward()
    unit = normalize(sae.W_dec.detach(), dim=1)[sae.encode(x.detach()).features]
    torch.testing.assert_close(x.grad, unit.sum(1, keepdim=True) * unit)


@pytest.mark.parametrize("variant", VARIANTS)
def test_permuted_codes_reconstruct_worse(variant):
    sae, x = codebook(variant), planted(200)
    with torch.no_grad():
        errors = [float((x - d.decode(d.encode(x))).square().sum()) for d in (sae, permute_decoder(sae, seed=0))]
    assert errors[1] > 1.5 * errors[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"codebook_variant": "grouped", "n_groups": 5}, "divide d_sae"),
        ({"codebook_variant": "residual", "n_stages": 3}, "divide k"),
        ({"codebook_variant": "latent", "k": 5, "levels": 8}, "times levels"),
        ({"codebook_variant": "latent", "k": 6, "levels": 8, "nest": True}, "nest"),
        ({"dead_features": "aux"}, "aux"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        SAEConfig.parse({"architecture": "codebook", "d_sae": 48, "k": 4, **wrong}, source="test")


def test_what_a_codebook_is_not_is_refused():
    config = SAEConfig(architecture="codebook", d_sae=48, k=4)
    with pytest.raises(ConfigError, match="more than one hook"):
        create_sae(config, 16, hooks_in=("h",), hooks_out=("y",), d_out=12)
    with pytest.raises(ConfigError, match="all decoder"):
        TrainConfig.parse({"hook": "h", "freeze_decoder": True, "sae": config.model_dump()}, source="test")
    grouped = SAEConfig(architecture="codebook", d_sae=48, k=6, codebook_variant="grouped", n_groups=3)
    with pytest.raises(ConfigError, match="n_groups: got 3 for activations of width 16"):
        create_sae(grouped, 16, hooks_in=("h",))


def test_the_mean_of_codes_is_their_sum_over_k():
    mean, total = codebook(code_sum="mean"), codebook()
    x = planted(50)
    assert math.isclose(mean.share, 1 / 4)
    torch.testing.assert_close(mean.directions(torch.arange(48)), total.directions(torch.arange(48)))
    torch.testing.assert_close(mean.decode(mean.encode(x)), total.decode(total.encode(x)))


@pytest.mark.parametrize("variant", ["plain", "grouped", "residual"])
def test_seeds_start_from_other_tokens_of_the_same_sample(variant):
    x = planted(300)
    first, same, other = (new_sae("codebook", **SIZES[variant]) for _ in range(3))
    for sae, seed in ((first, 3), (same, 3), (other, 4)):
        initialise(sae, x, seed=seed)
    assert torch.equal(first.W_dec, same.W_dec)
    assert not torch.equal(first.W_dec, other.W_dec)
