"""What each reader refuses, and what it makes of names and settings."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import saes
from interp.errors import ArtifactError
from saes.normalised import NormalisedSAE
from tests.golden.make import HERE

GEMMA = "gemma_scope/gemma-scope-2b-pt-res/layer_1/width_16k/average_l0_3"
LLAMA = "llama_scope/Llama3_1-8B-Base-L1R-8x"
OPENAI = "openai/resid_post_mlp_v5_32k/autoencoders"


@pytest.fixture
def copy(tmp_path):
    """A golden folder that may be damaged."""

    def make(folder):
        return shutil.copytree(HERE / folder, tmp_path / folder)

    return make


def _edit(path, **changes):
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, **changes}))


def assert_refused(path, match, **more):
    with pytest.raises(ArtifactError, match=match) as error:
        saes.load(path, **more)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"signed": True}, "fire negatively"),
        ({"activation": "gelu"}, "activation 'gelu'; supported are topk"),
        ({"num_latents": 8}, r"got \(9, 6\) float32"),
        ({"k": 0}, "k: got 0"),
        ({"d_in": None}, "d_in"),
        ({"skip_connection": True}, "W_skip is missing"),
        ({"activation": "groupmax", "k": 4}, "groups of one size"),
    ],
)
def test_what_a_sparsify_folder_may_not_say(copy, changes, match):
    folder = copy("sparsify/topk/layers.1")
    _edit(folder / "cfg.json", **changes)
    assert_refused(folder, match)


def test_a_sparsify_folder_is_named_after_its_module(copy, tmp_path):
    folder = copy("sparsify/topk/layers.1")
    for name, hook in {
        "gpt_neox.layers.3": "blocks.3.hook_resid_post",
        "h.11.attn": "blocks.11.hook_attn_out",
        "layers.0.mlp": "blocks.0.hook_mlp_out",
        "embed_tokens": "hook_embed",
    }.items():
        assert saes.load_facts(shutil.copytree(folder, tmp_path / name)).hook == hook
    for name in ("epoch_3", "batch.7", "math_12", "h_3_mlp"):
        assert_refused(shutil.copytree(folder, tmp_path / name), "names no module")
    other = shutil.copytree(folder, tmp_path / "something")
    assert_refused(other, "names no module")
    assert saes.load(other, hook="blocks.2.hook_resid_pre")[1].hook == "blocks.2.hook_resid_pre"


def test_sparsifys_run_config_says_model_data_and_context():
    facts = saes.load_facts(HERE / "sparsify/topk/layers.1")
    assert facts.model == {"name": "tiny"}
    assert facts.data == {"dataset": "stories", "context_size": 24}


@pytest.mark.parametrize(
    ("name", "changes", "match"),
    [
        ("AutoEncoderTopK", {"dict_class": "CrossCoder"}, "dict_class 'CrossCoder'; supported are AutoEncoder"),
        ("AutoEncoderTopK", {"k": None}, "k: got None"),
        ("AutoEncoder", {"activation_dim": 7}, r"encoder\.weight: got \(10, 6\)"),
        ("AutoEncoder", {"dict_class": "AutoEncoderNew"}, "tensor bias does not belong there"),
        ("AutoEncoder", {"submodule_name": "my_favourite"}, "hook="),
        ("AutoEncoder", {"submodule_name": None}, "no submodule_name that tells the hook"),
        ("MatryoshkaBatchTopKSAE", {"dict_size": 11}, r"W_dec: got|W_enc: got"),
    ],
)
def test_what_a_dictionary_learning_folder_may_not_say(copy, name, changes, match):
    folder = copy(f"dictionary_learning/{name}")
    trainer = json.loads((folder / "config.json").read_text())["trainer"]
    _edit(folder / "config.json", trainer={**trainer, **changes})
    assert_refused(folder, match)


def test_dictionary_learnings_classes_become_ours():
    batch, facts = saes.load(HERE / "dictionary_learning/BatchTopKSAE")
    assert (facts.architecture, batch.config.k, float(batch.threshold)) == ("batch_topk", 3, pytest.approx(0.2))
    nested, facts = saes.load(HERE / "dictionary_learning/MatryoshkaBatchTopKSAE")
    assert isinstance(nested, saes.MatryoshkaSAE)
    assert facts.prefixes == nested.prefix_widths() == (4, 10)
    assert facts.data == {"context_size": 24}


@pytest.mark.parametrize("name", ["BatchTopKSAE", "MatryoshkaBatchTopKSAE"])
@pytest.mark.parametrize(
    ("threshold", "match"), [(None, "threshold is missing"), (torch.tensor([0.2]), r"threshold: got \(1,\) float32")]
)
def test_what_selected_over_batches_needs_its_one_threshold(copy, name, threshold, match):
    folder = copy(f"dictionary_learning/{name}")
    state = torch.load(folder / "ae.pt", weights_only=True)
    del state["threshold"]
    torch.save(state if threshold is None else {**state, "threshold": threshold}, folder / "ae.pt")
    assert_refused(folder, match)


class _Harmful:
    def __reduce__(self):
        return (pytest.fail, ("code in a file was run",))


@pytest.mark.parametrize("folder", ["dictionary_learning/AutoEncoder", OPENAI])
def test_nothing_in_a_torch_file_is_run(copy, folder):
    path = next(copy(folder).glob("*.pt"))
    source = path.parent if path.name == "ae.pt" else path
    torch.save({"encoder.weight": _Harmful()}, path)
    assert_refused(source, "would have to be run")
    path.write_bytes(path.read_bytes()[:50])
    assert_refused(source, "damaged")
    torch.save([torch.ones(2)], path)
    assert_refused(source, "got a list; expected a state dict")


def test_nothing_in_an_npz_file_is_run(copy):
    folder = copy(GEMMA)
    arrays = {"W_enc": np.array([_Harmful()], dtype=object)}
    np.savez(folder / "params.npz", **arrays)
    assert_refused(folder, "not an archive of arrays")
    (folder / "params.npz").write_bytes(b"PK")
    assert_refused(folder, "damaged")


def test_a_packed_npz_file_that_is_corrupt_is_told(copy):
    folder = copy(GEMMA)
    with np.load(folder / "params.npz") as arrays:
        np.savez_compressed(folder / "params.npz", **arrays)
    data = bytearray((folder / "params.npz").read_bytes())
    # Behind the first member's header of 30 bytes, its name and its sizes in an extra field.
    data[70:90] = b"\xff" * 20
    (folder / "params.npz").write_bytes(data)
    assert_refused(folder, "not an archive of arrays")


@pytest.mark.parametrize(("folder", "name"), [("dictionary_learning/AutoEncoder", "ae.pt"), (GEMMA, "params.npz")])
def test_a_pointer_to_a_file_is_told_from_the_file(copy, folder, name):
    path = copy(folder) / name
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert_refused(path.parent, "a pointer of git-LFS")
    path.write_text("<html>Not found</html>")
    assert_refused(path.parent, "it begins with b'<html>Not fo'")


@pytest.mark.parametrize(
    ("repository", "sae_id", "hook", "model"),
    [
        ("gemma-scope-2b-pt-res", "layer_12/width_16k/average_l0_82", "blocks.12.hook_resid_post", "gemma-2-2b"),
        ("gemma-scope-9b-it-res", "layer_9/width_16k/average_l0_1", "blocks.9.hook_resid_post", "gemma-2-9b-it"),
        ("gemma-scope-2b-pt-att", "layer_3/width_65k/average_l0_8", "blocks.3.attn.hook_z", "gemma-2-2b"),
        ("gemma-scope-9b-pt-mlp", "layer_0/width_16k/average_l0_8", "blocks.0.hook_mlp_out", "gemma-2-9b"),
        ("gemma-scope-2-4b-it", "attn_out/layer_9_width_16k_l0_small", "blocks.9.attn.hook_z", "gemma-3-4b-it"),
        ("gemma-scope-2-270m-pt", "resid_post/layer_5_width_16k_l0_big", "blocks.5.hook_resid_post", "gemma-3-270m"),
    ],
)
def test_gemma_scopes_names_say_hook_and_model(tmp_path, repository, sae_id, hook, model):
    folder = shutil.copytree(HERE / GEMMA, tmp_path / repository / sae_id)
    facts = saes.load_facts(folder)
    assert facts.hook == hook
    assert facts.model == {"name": f"google/{model}"}


def test_what_gemma_scope_may_not_hold(copy, tmp_path):
    folder = copy(GEMMA)
    embedding = shutil.copytree(folder, tmp_path / "gemma-scope-2b-pt-res" / "embedding" / "width_4k" / "average_l0_6")
    assert_refused(embedding, "before their scaling")
    nameless = shutil.copytree(folder, tmp_path / "a" / "b" / "c" / "d")
    assert_refused(nameless, "neither repository nor folders")
    assert saes.load(nameless, hook="blocks.4.hook_resid_post")[0].hooks_in == ("blocks.4.hook_resid_post",)
    with np.load(folder / "params.npz") as arrays:
        kept = {name: arrays[name] for name in arrays.files if name != "threshold"}
    np.savez(folder / "params.npz", **kept)
    assert_refused(folder, "threshold is missing")
    np.savez(folder / "params.npz", **kept, threshold=np.full(10, np.nan, np.float32))
    assert_refused(folder, "threshold: 10 of 10 entries are NaN")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"activation": "GELU"}, "activation 'GELU'; supported are ReLU, TopK"),
        ({"activation_state_dict": {"k": 3, "postact_fn": "Identity"}}, "fire negatively"),
        ({"activation_state_dict": {}}, "k: got None"),
        ({"pre_bias": torch.zeros(7)}, "pre_bias"),
        ({"encoder.weight": None}, "encoder.weight is missing or no matrix"),
    ],
)
def test_what_an_openai_file_may_not_hold(copy, changes, match):
    path = copy(OPENAI) / "1.pt"
    torch.save({**torch.load(path, weights_only=True), **changes}, path)
    assert_refused(path, match)


def test_an_openai_file_of_tied_weights_and_one_without_a_place(copy, tmp_path):
    path = copy("openai/resid_delta_attn_v4/autoencoders") / "1.pt"
    state = torch.load(path, weights_only=True)
    state["decoder.linear.weight"] = state["encoder.weight"]
    del state["decoder.weight"]
    torch.save(state, tmp_path / "layer.pt")
    assert_refused(tmp_path / "layer.pt", "does not say layer and site")
    sae, _ = saes.load(tmp_path / "layer.pt", hook="blocks.1.hook_mlp_out")
    assert torch.equal(sae.W_dec, sae.W_enc)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"act_fn": "topk"}, "act_fn 'topk'"),
        ({"use_glu_encoder": True}, "gated encoder"),
        ({"dataset_average_activation_norm": None}, "activation_scale"),
        ({"jump_relu_threshold": None}, "jump_relu_threshold: got None"),
        ({"norm_activation": "token-wise"}, "norm_activation 'token-wise'"),
        ({"hook_point_in": None}, "names no hook_point_in"),
        ({"d_model": -1}, "d_model: got -1"),
    ],
)
def test_what_a_llama_scope_folder_may_not_say(copy, changes, match):
    folder = copy(LLAMA)
    _edit(folder / "hyperparams.json", **changes)
    assert_refused(folder, match)


def test_llama_scope_thresholds_hold_for_decoder_rows_of_norm_one(copy):
    """Shrinking decoder rows and growing encoder rows alike changes nothing that the release's loader gives."""
    folder = copy(LLAMA)
    expected, path = saes.load(folder)[0], folder / "checkpoints" / "final.safetensors"
    tensors = load_file(path)
    factor = torch.linspace(0.5, 2, 10)
    tensors["encoder.weight"] = tensors["encoder.weight"] * factor[:, None]
    tensors["encoder.bias"] = tensors["encoder.bias"] * factor
    tensors["decoder.weight"] = tensors["decoder.weight"] / factor
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    sae, x = saes.load(folder)[0], torch.randn(50, 6) * 3
    torch.testing.assert_close(sae.encode(x).dense(), expected.encode(x).dense(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(sae.decode(sae.encode(x)), expected.decode(expected.encode(x)), rtol=1e-4, atol=1e-5)


def test_a_folder_that_holds_no_sae_says_where_one_is(tmp_path, copy):
    assert_refused(tmp_path / "nowhere", "no such folder")
    copy("sparsify/topk/layers.1")
    assert_refused(tmp_path / "sparsify" / "topk", r"give .*layers\.1")
    assert_refused(copy(OPENAI), r"give the file .*1\.pt itself")
    assert_refused(HERE / "make.py", "is a file")
    (tmp_path / "half").mkdir()
    assert_refused(tmp_path / "half", "expected cfg.json, ae.pt, params.npz")
    (tmp_path / "half" / "cfg.json").write_text("{}")
    assert_refused(tmp_path / "half", "without sae_weights.safetensors or sae.safetensors")


def test_a_folder_that_may_not_be_read_is_no_reason_to_fail(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    listed = type(tmp_path).iterdir

    def iterdir(path):
        if path.name == "closed":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(type(tmp_path), "iterdir", iterdir)
    assert_refused(tmp_path, "expected cfg.json, ae.pt, params.npz")
    assert_refused(tmp_path / "closed", "cannot be read")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"architecture": ["jumprelu"]}, "architecture"),
        ({"metadata.hook_name": 5}, "hook_name"),
        ({"metadata.model_from_pretrained_kwargs": ["x"]}, "model_from_pretrained_kwargs: got"),
        ({"metadata.training_architecture_details": ["k"]}, "training_architecture_details: got"),
        ({"metadata.training_architecture_details": {"k": None}}, "k: got None"),
        ({"metadata.training_architecture_details": {"k": float("nan")}}, "k: got nan"),
        ({"d_sae": None}, "d_sae: got None"),
    ],
)
def test_what_a_saelens_config_may_not_say(copy, changes, match):
    folder = copy("saelens/v6_jumprelu")
    config = json.loads((folder / "cfg.json").read_text())
    for name, value in changes.items():
        (config["metadata"] if "." in name else config)[name.split(".")[-1]] = value
    (folder / "cfg.json").write_text(json.dumps(config))
    assert_refused(folder, match)


def test_an_older_saelens_config_is_held_to_its_types_too(copy):
    folder = copy("saelens/v3_topk")
    _edit(folder / "cfg.json", activation_fn_kwargs=[3])
    assert_refused(folder, r"activation_fn_kwargs: got \[3\]")


def test_the_whole_dictionary_is_the_last_level(copy):
    folder = copy("saelens/v6_jumprelu")
    tensors = load_file(folder / "sae_weights.safetensors")
    save_file({**tensors, "threshold": torch.full((10,), 0.2)}, folder / "sae_weights.safetensors")
    metadata = json.loads((folder / "cfg.json").read_text())["metadata"]
    trained = {"training_architecture": "matryoshka_batchtopk"}
    for widths in ([4], [4, 10]):
        details = {"training_architecture_details": {"k": 3, "matryoshka_widths": widths}}
        _edit(folder / "cfg.json", metadata=metadata | trained | details)
        assert saes.load(folder)[1].prefixes == (4, 10)
    details = {"training_architecture_details": {"k": 3, "matryoshka_widths": "ab"}}
    _edit(folder / "cfg.json", metadata=metadata | trained | details)
    assert_refused(folder, "matryoshka_widths: got 'ab'")


@pytest.mark.parametrize(("hook", "hook_out"), [("hook_resid_mid", "attn.hook_z"), ("ln2.hook_out", "hook_mlp_out")])
def test_a_transcoder_of_a_centred_model_is_refused(copy, hook, hook_out):
    folder = copy("saelens/v6_transcoder")
    metadata = json.loads((folder / "cfg.json").read_text())["metadata"]
    centred = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}
    names = {"hook_name": f"blocks.1.{hook}", "hook_name_out": f"blocks.1.{hook_out}"}
    _edit(folder / "cfg.json", metadata=metadata | centred | names)
    assert_refused(folder, "a transcoder of a model with centred writing weights")


def test_models_of_rms_norms_are_not_centred(copy):
    folder = copy("saelens/v6_center_writing_weights")
    assert isinstance(saes.load(folder)[0], NormalisedSAE)
    metadata = json.loads((folder / "cfg.json").read_text())["metadata"]
    for name in ("gemma-2b", "meta-llama/Llama-3.2-1B"):
        _edit(folder / "cfg.json", metadata=metadata | {"model_name": name})
        assert not isinstance(saes.load(folder)[0], NormalisedSAE)


def test_a_norm_of_several_numbers_is_refused(copy):
    folder = copy("llama_scope/Llama-Scope-R1-Distill/L1R")
    path = folder / "sae_weights.safetensors"
    save_file({**load_file(path), "dataset_average_activation_norm.in": torch.ones(2)}, path)
    assert_refused(folder, r"dataset_average_activation_norm\.in: got \(2,\) numbers")


def test_released_saes_of_centred_models_are_known_by_their_repository(copy, tmp_path):
    plain = saes.load(HERE / "saelens/v3_standard")[0]
    assert not isinstance(plain, NormalisedSAE)
    release = tmp_path / "GPT2-Small-SAEs-Reformatted" / "blocks.1.hook_resid_post"
    sae, facts = saes.load(shutil.copytree(HERE / "saelens/v3_standard", release))
    assert isinstance(sae, NormalisedSAE)
    assert sae.normalisation == "centre"
    assert facts.model == {"name": "tiny"}


def test_a_scale_that_saelens_keeps_beside_its_files_is_known_or_given(tmp_path):
    name = "gemma_2b_blocks.12.hook_resid_post_16384"
    folder = tmp_path / "Gemma-2b-Residual-Stream-SAEs" / name
    shutil.copytree(HERE / "saelens/v6_expected_average_only_in", folder)
    (folder / "activation_scaler.json").unlink()
    known, given = saes.load(folder)[0], saes.load(folder, activation_scale=0.5)[0]
    torch.testing.assert_close(known.W_enc / 0.21381938399317255, given.W_enc / 0.5)
    torch.testing.assert_close(known.W_dec * 0.21381938399317255, given.W_dec * 0.5)


@pytest.mark.parametrize(
    ("hook", "ours"), [("model.layers.7", "blocks.7.hook_resid_post"), ("transformer.h.0", "blocks.0.hook_resid_post")]
)
def test_hugging_face_names_of_blocks_are_understood(copy, hook, ours):
    folder = copy("saelens/v6_standard")
    metadata = json.loads((folder / "cfg.json").read_text())["metadata"]
    names = {"hook_name": hook, "model_name": "gemma-2-2b", "exclude_special_tokens": True, "context_size": 128}
    _edit(folder / "cfg.json", metadata=metadata | names)
    facts = saes.load_facts(folder)
    assert (facts.hook, facts.model["name"]) == (ours, "google/gemma-2-2b")
    assert facts.mask_policy == {"mask_bos": True, "mask_special": True}
    assert facts.data["context_size"] == 128
