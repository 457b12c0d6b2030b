"""What is read and not trained: gated and group-max SAEs of others, transcoders, normalisation at run time."""

from dataclasses import replace

import pytest
import torch

import saes
from interp.code import ActivationBatch, Code
from interp.errors import ConfigError, NonFiniteError, ShapeError
from saes.anchored_code import AnchoredCode
from saes.centroids import nearest_centroid
from saes.gated import GatedSAE
from saes.group_max import GroupMaxSAE
from saes.io import load, load_sae, save_sae
from saes.normalised import NormalisedSAE
from saes.transcoder import Transcoder
from tests.families import tiny_model
from tests.peers.conformance import randomised
from tests.specimens import HOOK, perfect_sae, random_sae, tiny_stream

HOOKS = {"hooks_in": ("blocks.1.ln2.hook_out",), "hooks_out": ("blocks.1.hook_mlp_out",)}
MODES = ("layer_norm", "constant_norm", "centre")


@pytest.fixture
def x():
    return torch.randn(50, 16) * 3 + 1


def _config(architecture="standard", **settings):
    return random_sae(architecture, **settings).config


def transcoder(*, skip, architecture="standard"):
    return randomised(Transcoder(_config(architecture), 16, 12, skip=skip, **HOOKS))


def test_a_gated_sae_without_magnitudes_of_its_own_is_a_standard_one(x):
    standard = random_sae("standard")
    gated = GatedSAE(standard.config, 16, hooks_in=(HOOK,))
    gated.load_state_dict(standard.state_dict(), strict=False)
    with torch.no_grad():
        gated.b_mag.copy_(gated.b_enc)
    torch.testing.assert_close(gated.encode(x).dense(), standard.encode(x).dense(), rtol=1e-5, atol=1e-5)


def test_a_gate_that_is_shut_silences_a_large_magnitude(x):
    gated = randomised(GatedSAE(_config(), 16, hooks_in=(HOOK,)))
    with torch.no_grad():
        gated.b_mag.fill_(100.0)
        gated.b_enc[0] = -1e6
    assert (gated.encode(x).dense()[:, 0] == 0).all()


def test_group_max_with_groups_of_one_is_a_relu(x):
    standard = random_sae("standard")
    sae = GroupMaxSAE(_config("topk", k=24), 16, hooks_in=(HOOK,))
    sae.load_state_dict(standard.state_dict(), strict=False)
    torch.testing.assert_close(sae.encode(x).dense(), standard.encode(x).dense())


def test_group_max_keeps_at_most_one_of_a_group_and_it_is_the_largest():
    sae, x = randomised(GroupMaxSAE(_config("topk", k=6), 16, hooks_in=(HOOK,))), torch.randn(300, 16)
    acts = sae.encode(x).dense().unflatten(1, (6, 4))
    pre = ((x - sae.b_dec) @ sae.W_enc.T + sae.b_enc).clamp(min=0).unflatten(1, (6, 4))
    assert ((acts > 0).sum(2) <= 1).all()
    torch.testing.assert_close(acts.amax(2), pre.amax(2))


@pytest.mark.parametrize("mode", MODES)
def test_normalisation_of_normalised_tokens_changes_nothing_but_their_place(x, mode):
    inner = random_sae("topk")
    sae = NormalisedSAE(inner, mode)
    centred = x - x.mean(1, keepdim=True)
    normalised = {
        "layer_norm": centred / (x.std(1, keepdim=True) + 1e-5),
        "constant_norm": 4 * x / x.norm(dim=1, keepdim=True),
        "centre": centred,
    }[mode]
    torch.testing.assert_close(sae.encode(x).dense(), inner.encode(normalised).dense(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(sae.encode(normalised).dense(), sae.encode(x).dense(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("mode", ["layer_norm", "constant_norm"])
def test_what_is_scaled_at_run_time_scales_with_its_token(x, mode):
    sae = NormalisedSAE(random_sae("standard"), mode)
    outputs = [sae.decode(sae.encode(factor * x)) / factor for factor in (1.0, 50.0)]
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", MODES)
def test_a_perfect_sae_of_normalised_activations_costs_the_model_nothing(tmp_path, mode):
    model = tiny_model("gpt2")
    sae = NormalisedSAE(perfect_sae(model.hook(HOOK).width), mode)
    result = saes.evaluate(model, sae, tiny_stream(tmp_path, model), n_tokens=200)
    # The standard deviation is divided by with an ε that is not multiplied by.
    assert result.explained_variance > 0.9999
    assert abs(result.ce.delta) < 1e-3


def test_a_token_that_is_zero_stays_finite():
    for mode in MODES:
        sae = NormalisedSAE(random_sae("standard"), mode)
        assert sae.decode(sae.encode(torch.zeros(2, 16))).isfinite().all()


def test_a_code_keeps_its_tokens_through_replace_and_active_and_is_refused_without(x):
    for sae in (NormalisedSAE(random_sae("topk"), "layer_norm"), transcoder(skip=True)):
        code = sae.encode(x)
        assert isinstance(code.active(), AnchoredCode)
        torch.testing.assert_close(sae.decode(code.active()), sae.decode(code))
        sae.decode(replace(code, values=code.values * 0))
        assert isinstance(code.keep(code.features < 6), AnchoredCode)
        with pytest.raises(ConfigError, match=r"dataclasses\.replace"):
            sae.decode(Code(code.values, code.features, code.row_offsets, code.d_sae))


def test_a_skip_transcoder_with_no_features_is_its_skip_connection(x):
    sae = transcoder(skip=True)
    with torch.no_grad():
        sae.b_enc.fill_(-1e6)
    torch.testing.assert_close(sae.decode(sae.encode(x)), x @ sae.W_skip.T + sae.b_dec)


def test_a_transcoder_with_top_k_keeps_k(x):
    sae = transcoder(skip=False, architecture="topk")
    assert sae.encode(x).row_offsets.diff().max() == 3
    assert sae.decode(sae.encode(x)).shape == (50, 12)


def test_prefixes_decode_the_first_features_alone(x):
    for sae in (transcoder(skip=True), transcoder(skip=False), NormalisedSAE(random_sae("matryoshka"), "layer_norm")):
        code = sae.encode(x)
        kept = code.features < 6
        alone = replace(code, values=torch.where(kept, code.values, 0.0))
        torch.testing.assert_close(sae.decode(code, prefix=6), sae.decode(alone), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: randomised(GatedSAE(_config(), 16, hooks_in=(HOOK,))),
        *(lambda mode=mode: NormalisedSAE(random_sae("topk"), mode) for mode in MODES),
        *(lambda skip=skip: transcoder(skip=skip) for skip in (False, True)),
    ],
)
def test_saved_and_loaded_they_give_the_same(tmp_path, x, make):
    sae = make()
    save_sae(tmp_path / "sae", sae, {"model": {"name": "tiny"}})
    back, facts = load(tmp_path / "sae")
    assert type(back) is type(sae)
    assert (back.hooks_in, back.hooks_out) == (sae.hooks_in, sae.hooks_out)
    assert torch.equal(back.encode(x).dense(), sae.encode(x).dense())
    assert torch.equal(back.decode(back.encode(x)), sae.decode(sae.encode(x)))
    assert torch.equal(back.directions(torch.arange(5)), sae.directions(torch.arange(5)))
    assert facts.hook == sae.hooks_in[0]
    assert (facts.architecture == "transcoder") == isinstance(sae, Transcoder)
    (tmp_path / "sae" / "interp.json").rename(tmp_path / "own.json")
    assert load(tmp_path / "sae")[1].architecture == facts.architecture
    (tmp_path / "own.json").rename(tmp_path / "sae" / "interp.json")
    save_sae(tmp_path / "again", load_sae(tmp_path / "sae"), {"model": {"name": "tiny"}})
    for name in ("cfg.json", "sae_weights.safetensors", "interp.json"):
        assert (tmp_path / "sae" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_what_saelens_has_nothing_for_is_not_written(tmp_path):
    with pytest.raises(ConfigError, match="SAELens has nothing"):
        save_sae(tmp_path / "sae", GroupMaxSAE(_config("topk", k=6), 16, hooks_in=(HOOK,)), {})
    assert not (tmp_path / "sae").exists()


def test_they_say_that_they_are_not_for_training_and_what_width_they_take():
    none = torch.empty(0, dtype=torch.int64)
    nothing = ActivationBatch({HOOK: torch.empty(0, 16)}, none, none, none)
    group_max = randomised(GroupMaxSAE(_config("topk", k=6), 16, hooks_in=(HOOK,)))
    for sae in (group_max, NormalisedSAE(random_sae("topk"), "centre"), transcoder(skip=False)):
        with pytest.raises(ConfigError, match=f"{type(sae).__name__} on, which is for inference only"):
            sae.losses(nothing)
        # The loop's other way in.
        with pytest.raises(ConfigError, match=f"{type(sae).__name__} on, which is for inference only"):
            sae.provisional_losses(nothing)
        with pytest.raises(ShapeError, match="check the hook"):
            sae.encode(torch.randn(3, 5))


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_what_is_no_number_is_not_encoded_by_any_of_them(x, poison):
    wide = {"d_in": 16, "d_sae": 24}
    read = {
        "transcoder": transcoder(skip=False),
        "skip transcoder": transcoder(skip=True),
        "gated": randomised(GatedSAE(_config(), 16, hooks_in=(HOOK,))),
        "centroids": nearest_centroid(torch.randn(8, 16), torch.zeros(16), hooks=(HOOK,)),
        **{f"standard, {mode}": NormalisedSAE(random_sae("standard", **wide), mode) for mode in MODES},
    }
    poisoned = x.clone()
    poisoned[7, 3] = poison
    for name, sae in read.items():
        assert sae.encode(x).n_rows == 50, name
        with pytest.raises(NonFiniteError, match="1 of 50 tokens have NaN or infinite activations"):
            sae.encode(poisoned)
