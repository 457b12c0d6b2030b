"""SAEs from the hub's cache, without network."""

import shutil

import pytest
from huggingface_hub import constants

import saes
from interp.errors import ArtifactError
from tests.golden.make import HERE

REVISION = "0" * 40


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache with two repositories, as the hub's client lays them out."""
    held = {"google/gemma-scope-2b-pt-res": "gemma_scope/gemma-scope-2b-pt-res", "me/coders": "sparsify/topk"}
    for repository, folder in held.items():
        home = tmp_path / f"models--{repository.replace('/', '--')}"
        shutil.copytree(HERE / folder, home / "snapshots" / REVISION)
        (home / "refs").mkdir()
        (home / "refs" / "main").write_text(REVISION)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def test_an_sae_is_found_by_repository_and_id(cache):
    sae, facts = saes.load("google/gemma-scope-2b-pt-res", "layer_1/width_16k/average_l0_3")
    assert sae.d_sae == 10
    assert facts.hook == "blocks.1.hook_resid_post"
    assert facts.model == {"name": "google/gemma-2-2b"}
    assert saes.load("me/coders", "layers.1")[1].data["context_size"] == 24


def test_a_path_into_the_cache_tells_its_repository(cache):
    folder = cache / "models--google--gemma-scope-2b-pt-res" / "snapshots" / REVISION
    assert saes.load_facts(folder / "layer_1/width_16k/average_l0_3").hook == "blocks.1.hook_resid_post"


@pytest.mark.parametrize(
    ("source", "sae_id", "match"),
    [
        ("google/gemma-scope-9b-pt-res", "layer_1", "not in the hub's cache.*HF_HUB_OFFLINE"),
        ("google/gemma-scope-2b-pt-res", "layer_2", "holds no layer_2"),
        ("me/coders", None, r"give .*layers\.1"),
        ("a/b/c", None, "no such folder or file"),
        ("nothing", None, "owner/name"),
        ("a--b/..c", "x", "no hub repository"),
    ],
)
def test_what_is_not_there_is_told_in_one_line(cache, source, sae_id, match):
    with pytest.raises(ArtifactError, match=match) as error:
        saes.load(source, sae_id)
    assert "\n" not in str(error.value)
