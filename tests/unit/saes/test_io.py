import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from interp.errors import ArtifactError, ConfigError
from saes import SAEConfig, create_sae
from saes.io import load, load_facts, load_sae, save_sae
from saes.jumprelu import JumpReLUSAE
from tests.specimens import HOOK, random_sae

FACTS = {
    "model": {"name": "tiny", "family": "llama", "content_hash": "abc"},
    "data": {"mask_policy": {"mask_bos": True, "mask_special": False}, "prepend_bos": True, "context_size": 24},
    "seed": 3,
    "training_tokens": 1000,
}
ARCHITECTURES = ("topk", "batch_topk", "matryoshka", "standard", "gated", "jumprelu")


@pytest.fixture
def x():
    return torch.randn(50, 16)


def _same(code, other):
    return torch.equal(code.values, other.values) and torch.equal(code.features, other.features)


def _edit(path, **changes):
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, **changes}))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_sae_comes_back_bit_for_bit(tmp_path, x, architecture):
    sae = random_sae(architecture)
    save_sae(tmp_path / "sae", sae, FACTS)
    back = load_sae(tmp_path / "sae")
    assert type(back) is type(sae)
    assert back.config == sae.config
    assert back.hooks_in == sae.hooks_in
    assert _same(back.encode(x), sae.encode(x))
    assert torch.equal(back.decode(back.encode(x)), sae.decode(sae.encode(x)))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_scale_and_decoder_norms_are_folded(tmp_path, x, architecture):
    sae = random_sae(architecture, decoder_norm="free")
    with torch.no_grad():
        sae.input_scale.fill_(1.7)
    save_sae(tmp_path / "sae", sae, FACTS)
    back = load_sae(tmp_path / "sae")
    code, other = sae.encode(x), back.encode(x)
    assert torch.equal(code.features, other.features)
    torch.testing.assert_close(other.values, code.values, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(back.decode(other), sae.decode(code), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(back.W_dec.norm(dim=1), torch.ones(24))
    assert float(back.input_scale) == 1.0


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_saving_what_was_loaded_gives_the_same_files(tmp_path, architecture):
    save_sae(tmp_path / "first", random_sae(architecture, decoder_norm="free"), FACTS)
    save_sae(tmp_path / "second", load_sae(tmp_path / "first"), FACTS)
    for name in ("cfg.json", "sae_weights.safetensors", "interp.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_facts_come_back(tmp_path):
    save_sae(tmp_path / "sae", random_sae("matryoshka"), FACTS)
    facts = load_facts(tmp_path / "sae")
    assert facts.hook == HOOK
    assert facts.architecture == "matryoshka"
    assert facts.prefixes == (6, 12, 24)
    assert facts.model_hash == "abc"
    assert facts.mask_policy == {"mask_bos": True, "mask_special": False}
    assert (facts.seed, facts.training_tokens, facts.frozen_decoder) == (3, 1000, False)


def test_the_layout_is_saelens_6(tmp_path):
    save_sae(tmp_path / "sae", random_sae("matryoshka", hook="blocks.0.attn.hook_z"), FACTS)
    values = json.loads((tmp_path / "sae" / "cfg.json").read_text())
    tensors = load_file(tmp_path / "sae" / "sae_weights.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
        "W_enc": (16, 24), "W_dec": (24, 16), "b_enc": (24,), "b_dec": (16,), "threshold": (24,),
    }  # fmt: skip
    assert values["architecture"] == "jumprelu"
    assert values["reshape_activations"] == "hook_z"
    assert values["metadata"]["training_architecture"] == "matryoshka_batchtopk"
    assert values["metadata"]["training_architecture_details"]["matryoshka_widths"] == [6, 12, 24]
    assert (tensors["threshold"] == 0.7).all()


def _foreign(folder, architecture, *, metadata=None, more=None, tensors=None, **values):
    """What SAELens itself would write."""
    folder.mkdir()
    base = {
        "architecture": architecture, "d_in": 4, "d_sae": 6, "dtype": "float32", "device": "cpu",
        "apply_b_dec_to_input": True, "normalize_activations": "none", "reshape_activations": "none",
        "metadata": {"sae_lens_version": "6.54.12", "hook_name": HOOK, "model_name": "gpt2", **(metadata or {})},
    }  # fmt: skip
    (folder / "cfg.json").write_text(json.dumps({**base, **values}))
    shapes = {"W_enc": (4, 6), "W_dec": (6, 4), "b_enc": (6,), "b_dec": (4,)}
    weights = {name: torch.randn(shape) for name, shape in shapes.items()} | (tensors or {})
    save_file(weights, folder / "sae_weights.safetensors")
    return weights


def test_a_foreign_jumprelu_keeps_each_features_threshold(tmp_path):
    w = _foreign(tmp_path / "sae", "jumprelu", tensors={"threshold": torch.rand(6)})
    sae, x = load_sae(tmp_path / "sae"), torch.randn(30, 4)
    assert isinstance(sae, JumpReLUSAE)
    pre = (x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]
    torch.testing.assert_close(sae.encode(x).dense(), pre * (pre > w["threshold"]))
    save_sae(tmp_path / "again", sae, FACTS)
    assert _same(load_sae(tmp_path / "again").encode(x), sae.encode(x))
    assert load_facts(tmp_path / "sae").model == {"name": "gpt2"}


def test_a_foreign_batchtopk_is_known_by_its_metadata(tmp_path):
    trained = {
        "training_architecture": "matryoshka_batchtopk",
        "training_architecture_details": {"k": 2.0, "matryoshka_widths": [3, 6]},
    }
    _foreign(tmp_path / "sae", "jumprelu", metadata=trained, tensors={"threshold": torch.full((6,), 0.3)})
    sae = load_sae(tmp_path / "sae")
    assert sae.config.architecture == "matryoshka"
    assert sae.config.prefix_widths() == (3, 6)
    assert float(sae.threshold) == pytest.approx(0.3)


def test_a_foreign_topk_may_rescale_by_decoder_norms(tmp_path):
    w = _foreign(tmp_path / "sae", "topk", k=2, rescale_acts_by_decoder_norm=True)
    x = torch.randn(30, 4)
    norm = w["W_dec"].norm(dim=1)
    pre = ((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]) * norm
    top = pre.topk(2, dim=1)
    acts = torch.zeros_like(pre).scatter(1, top.indices, top.values.relu())
    sae = load_sae(tmp_path / "sae")
    torch.testing.assert_close(sae.encode(x).dense(), acts)
    torch.testing.assert_close(sae.decode(sae.encode(x)), (acts / norm) @ w["W_dec"] + w["b_dec"], rtol=1e-4, atol=1e-5)


def test_a_foreign_standard_sae_may_leave_b_dec_out_of_the_input(tmp_path):
    w = _foreign(tmp_path / "sae", "standard", apply_b_dec_to_input=False)
    x = torch.randn(30, 4)
    expected = torch.relu(x @ w["W_enc"] + w["b_enc"])
    torch.testing.assert_close(load_sae(tmp_path / "sae").encode(x).dense(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"architecture": "quantum"}, "architecture 'quantum'; supported are standard, topk, jumprelu, gated"),
        ({"architecture": "abstopk"}, "fire negatively"),
        ({"architecture": "temporal"}, "tokens before it"),
        ({"d_sae": 7}, "do not belong together"),
        ({"d_in": "4"}, "d_in"),
        ({"normalize_activations": "covariance_whitening"}, "unfinished training"),
        ({"normalize_activations": "expected_average_only_in"}, "activation_scale"),
        ({"normalize_activations": "constant_scalar_rescale"}, "activation_normalization_factor"),
        ({"k": 99}, "at most d_sae"),
        ({"k": None}, "k"),
        ({"metadata": {"sae_lens_version": "6.1.0"}}, "hook_name"),
        ({"metadata": None}, "hook_name"),
        ({"metadata": None, "hook_name": HOOK, "activation_fn": "tanh-relu"}, "tanh-relu"),
        ({"metadata": {"sae_lens_version": "6.1.0", "hook_name": HOOK, "hook_head_index": 3}}, "head 3"),
        (
            {
                "metadata": {
                    "sae_lens_version": "6.1.0",
                    "hook_name": HOOK,
                    "model_from_pretrained_kwargs": {"revision": "step3000"},
                }
            },
            "revision='step3000'",
        ),
    ],
)
def test_what_a_foreign_folder_may_not_say(tmp_path, values, match):
    _foreign(tmp_path / "sae", "topk", k=2)
    _edit(tmp_path / "sae" / "cfg.json", **values)
    with pytest.raises(ArtifactError, match=match) as error:
        load_sae(tmp_path / "sae")
    assert "\n" not in str(error.value)
    assert str(tmp_path / "sae") in str(error.value)


@pytest.mark.parametrize(
    ("tensors", "match"),
    [
        ({"scaling_factor": torch.full((6,), 2.0)}, "finetuning_scaling_factor"),
        ({"W_skip": torch.ones(6)}, "W_skip does not belong"),
        ({"b_dec": torch.randn(5)}, "b_dec"),
        ({"b_enc": torch.ones(6, dtype=torch.int64)}, "b_enc"),
        ({"W_dec": torch.full((6, 4), torch.nan)}, "24 of 24 entries are NaN"),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path, tensors, match):
    _foreign(tmp_path / "sae", "standard", tensors=tensors)
    with pytest.raises(ArtifactError, match=match):
        load_sae(tmp_path / "sae")


def test_a_damaged_folder_is_named(tmp_path):
    folder = tmp_path / "run" / "sae"
    with pytest.raises(ArtifactError, match="no such folder"):
        load_sae(folder)
    folder.parent.mkdir()
    save_sae(folder, random_sae("batch_topk"), FACTS)
    with pytest.raises(ArtifactError, match="run/sae"):
        load_sae(folder.parent)
    weights = (folder / "sae_weights.safetensors").read_bytes()
    (folder / "sae_weights.safetensors").write_bytes(weights[:-100])
    with pytest.raises(ArtifactError, match=r"sae_weights\.safetensors"):
        load_sae(folder)
    (folder / "sae_weights.safetensors").unlink()
    with pytest.raises(ArtifactError, match="no such file"):
        load_sae(folder)


@pytest.mark.parametrize(
    ("file", "changes", "match"),
    [
        ("cfg.json", {"k": 4}, "k: got 4 in cfg.json and 3 in interp.json"),
        ("cfg.json", {"architecture": "standard"}, "architecture"),
        ("interp.json", {"schema_version": 9}, "version"),
        ("interp.json", {"sae": {"k": 3, "colour": "red"}}, "unknown key"),
    ],
)
def test_files_that_contradict_each_other_are_refused(tmp_path, file, changes, match):
    save_sae(tmp_path / "sae", random_sae("topk"), FACTS)
    _edit(tmp_path / "sae" / file, **changes)
    with pytest.raises(ArtifactError, match=match):
        load_sae(tmp_path / "sae")


def test_an_sae_of_several_hooks_cannot_be_written(tmp_path):
    sae = create_sae(SAEConfig(d_sae=8, k=2), 6, hooks_in=("a", "b"))
    with pytest.raises(ConfigError, match="one hook"):
        save_sae(tmp_path / "sae", sae, FACTS)
    assert not (tmp_path / "sae").exists()


def test_facts_as_they_were_read_are_saved_again_under_a_path_of_either_kind(tmp_path):
    sae = random_sae("matryoshka")
    save_sae(str(tmp_path / "first"), sae, FACTS)
    loaded, facts = load(str(tmp_path / "first"))
    save_sae(tmp_path / "second", loaded, facts)
    assert load_facts(tmp_path / "second") == facts
    assert facts.training_tokens == FACTS["training_tokens"]
    assert _same(load_sae(tmp_path / "second").encode(torch.ones(2, 16)), sae.encode(torch.ones(2, 16)))
