"""Loading: what comes back is right, and what cannot be loaded says so in one line."""

import json
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from interp import model_files
from interp.errors import ConfigError, MissingDependencyError, ModelError
from interp.hooks import capture, edit
from interp.models import load_model, wrap_model
from interp.weights import hash_weights
from tests.families import CONTEXT, D_VOCAB, KINDS, save_model, tiny_model, tiny_tokens

FAMILY = {"gpt_neox_parallel": "gpt_neox", "gpt_neox_sequential": "gpt_neox"}


@pytest.fixture
def folder(tmp_path):
    return save_model(tiny_model("llama"), tmp_path / "llama")


def set_config(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_comes_back(kind, tmp_path):
    saved = tiny_model(kind)
    model = load_model(str(save_model(saved, tmp_path / "m")), device="cpu")
    assert (model.family, model.n_layers, model.d_model) == (FAMILY.get(kind, kind), 3, 16)
    assert (model.d_vocab, model.context_size, model.bos_token_id) == (D_VOCAB, CONTEXT, 0)
    assert (model.dtype, model.device.type, model.hf.training) == (torch.float32, "cpu", False)
    assert list(model.hooks) == list(saved.hooks)
    assert torch.equal(model.hf(tiny_tokens()).logits, saved.hf(tiny_tokens()).logits)


def test_a_half_precision_folder_is_computed_in_the_precision_asked_for(tmp_path):
    saved = tiny_model("llama")
    saved.hf.half()
    folder = save_model(saved, tmp_path / "half")
    assert load_model(str(folder), device="cpu").dtype == torch.float32
    assert load_model(str(folder), device="cpu", dtype="bfloat16").dtype == torch.bfloat16


def test_the_hash_follows_the_content_and_not_the_place(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "elsewhere")
    original = load_model(str(folder), device="cpu").content_hash
    assert load_model(str(copy), device="cpu", dtype="bfloat16").content_hash == original
    set_config(copy, rms_norm_eps=1e-3)
    assert load_model(str(copy), device="cpu").content_hash != original


def test_the_hash_in_memory_follows_config_and_tensors():
    original = hash_weights(tiny_model("gpt2").hf)
    assert hash_weights(tiny_model("gpt2").hf) == original
    assert hash_weights(tiny_model("gpt2", seed=1).hf) != original
    changed = tiny_model("gpt2").hf
    changed.config.layer_norm_epsilon = 1e-3
    assert hash_weights(changed) != original


def test_randomised_weights_keep_every_tensor_s_values_but_not_their_places(folder):
    plain, null = load_model(str(folder)), load_model(str(folder), randomise_seed=1)
    for (name, before), after in zip(plain.hf.named_parameters(), null.hf.parameters(), strict=True):
        assert not torch.equal(before, after), name
        assert torch.equal(before.flatten().sort().values, after.flatten().sort().values), name
    assert load_model(str(folder), randomise_seed=1).content_hash == null.content_hash
    assert len({plain.content_hash, null.content_hash, load_model(str(folder), randomise_seed=2).content_hash}) == 3


def test_randomised_weights_stay_tied():
    model = tiny_model("gpt2")
    assert model.hf.get_input_embeddings().weight is model.hf.get_output_embeddings().weight


def test_sharded_weights_are_read_and_hashed_whole(tmp_path):
    model, folder = tiny_model("gpt2"), tmp_path / "sharded"
    save_model(model, folder, max_shard_size="8KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 2
    assert torch.equal(load_model(str(folder)).hf(tiny_tokens()).logits, model.hf(tiny_tokens()).logits)
    shards[1].unlink()
    with pytest.raises(ModelError, match=shards[1].name):
        load_model(str(folder))


DAMAGE = {
    "no config": (lambda f: (f / "config.json").unlink(), r"no config\.json"),
    "broken config": (lambda f: cut(f / "config.json"), "cannot be read as JSON"),
    "config of another kind": (lambda f: (f / "config.json").write_text("[1]"), "names no model_type"),
    "impossible config": (lambda f: set_config(f, num_attention_heads=0), "not usable"),
    "wrong type in config": (lambda f: set_config(f, hidden_size="wide"), "not usable"),
    "unsupported family": (lambda f: set_config(f, model_type="mamba"), "'mamba'; supported are gpt2, gpt_neo,"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), r"no model\.safetensors"),
    "truncated weights": (lambda f: cut(f / "model.safetensors"), "must be whole"),
    "empty weights": (lambda f: (f / "model.safetensors").write_bytes(b""), "must be whole"),
    "too few weights": (lambda f: set_config(f, num_hidden_layers=4), r"missing model\.layers\.3"),
    "too many weights": (lambda f: set_config(f, num_hidden_layers=2), r"unexpected model\.layers\.2"),
    "weights of another size": (lambda f: set_config(f, vocab_size=50), "mismatched .*weight"),
    "no tokenizer": (lambda f: [path.unlink() for path in f.glob("token*")], "no tokenizer files"),
    "broken tokenizer": (lambda f: cut(f / "tokenizer.json"), "tokenizer cannot be read"),
    "nonsensical tokenizer": (
        lambda f: (f / "tokenizer.json").write_text('{"added_tokens": [], "model": {"type": "no such type"}}'),
        "tokenizer cannot be read",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_folder_is_a_one_line_error(folder, damage):
    spoil, message = DAMAGE[damage]
    spoil(folder)
    with pytest.raises(ModelError, match=message) as caught:
        load_model(str(folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/no/such/folder", "no such folder"),
        ("", "empty model name"),
        ("not a name", "no hub model"),
        ("nobody/nothing", "not in the hub's cache"),
        (__file__, "is a file"),
    ],
)
def test_a_name_that_leads_nowhere_is_a_one_line_error(name, message):
    with pytest.raises(ModelError, match=message) as caught:
        load_model(name)
    assert "\n" not in str(caught.value)


def test_the_embedded_model_is_a_folder_of_the_package(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(model_files, "EMBEDDED_FOLDER", folder)
    model = load_model("embedded")
    assert (model.name, model.family) == ("embedded", "llama")
    monkeypatch.setattr(model_files, "EMBEDDED_FOLDER", tmp_path / "absent")
    with pytest.raises(ModelError, match="embedded model is missing"):
        load_model("embedded")


def test_a_foreign_tokenizer_is_refused():
    model = tiny_model("llama")
    model.tokenizer.add_tokens(["surplus"])
    with pytest.raises(ModelError, match="41 tokens for a model of 40"):
        wrap_model(model.hf, model.tokenizer, name="mixed up")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_where_there_is_none_is_an_error(folder):
    with pytest.raises(ConfigError, match="no CUDA"):
        load_model(str(folder), device="cuda")
    assert load_model(str(folder), device="auto").device.type == "cpu"


@pytest.mark.parametrize(("setting", "value"), [("device", "tpu"), ("dtype", "float64")])
def test_unknown_settings_name_the_known_ones(folder, setting, value):
    with pytest.raises(ConfigError, match=rf"{setting}: got '{value}'; expected"):
        load_model(str(folder), **{setting: value})


def test_the_bridge_is_made_once_and_never_sees_an_edit():
    model = tiny_model("gpt2")
    plain = model.hf(tiny_tokens()).logits
    with edit(model, {"blocks.0.hook_mlp_out": torch.zeros_like}):
        assert not capture(model, tiny_tokens(), ["blocks.0.hook_mlp_out"])["blocks.0.hook_mlp_out"].any()
        bridge = model.bridge
    assert model.bridge is bridge
    torch.testing.assert_close(bridge(tiny_tokens()), plain)


def test_without_transformer_lens_the_bridge_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformer_lens.model_bridge", None)
    with pytest.raises(MissingDependencyError, match="transformer-lens"):
        _ = tiny_model("gpt2").bridge


@pytest.mark.parametrize(("kind", "buffers"), [("gpt_neo", "attn.attention"), ("gptj", "attn")])
def test_masks_in_old_files_are_not_read(tmp_path, kind, buffers):
    """Published GPT-Neo and GPT-J files hold the causal mask of every block."""
    save_model(tiny_model(kind), tmp_path)
    path = tmp_path / "model.safetensors"
    masks = {f"transformer.h.{i}.{buffers}.{name}": torch.ones(1) for i in range(3) for name in ("bias", "masked_bias")}
    save_file(load_file(path) | masks, path, metadata={"format": "pt"})
    assert load_model(str(tmp_path), device="cpu").n_layers == 3
    save_file(load_file(path) | {"transformer.h.0.mlp.bias": torch.ones(1)}, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"unexpected transformer\.h\.0\.mlp\.bias"):
        load_model(str(tmp_path), device="cpu")
