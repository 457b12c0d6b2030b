"""A compiled forward pass gives what the plain one gives (the cases are in tests/compiled_cases.py)."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from interp.compiled import CompiledCapture
from interp.errors import ConfigError
from tests.families import tiny_model

ROOT = Path(__file__).parents[3]
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch's compiler needs g++ on a CPU")


def _cases(*backend):
    command = [sys.executable, "-m", "tests.compiled_cases", *backend]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module")
def cases():
    return _cases()


def test_rows_of_any_shape_share_one_graph_and_the_model_is_left_alone(cases):
    found, said = cases
    assert found["shapes"] == {"apart": pytest.approx(0, abs=1e-6), "n_graphs": 1, "hooked": False, "n_blocks": 3}
    assert "compile: forward pass of tiny-llama in " in said


def test_packed_documents_do_not_see_each_other(cases):
    assert cases[0]["packed"]["apart"] <= 1e-6 < 1e-2 < cases[0]["packed"]["without"]


def test_an_encoder_minds_its_mask(cases):
    assert cases[0]["encoder"]["apart"] == pytest.approx(0, abs=1e-6)


def test_a_model_that_cannot_be_traced_whole_is_told_in_one_line(cases):
    told = cases[0]["untraceable"]["told"]
    assert told.startswith("harvest.compile: tiny-gpt2 cannot be compiled (")
    assert told.endswith("; leave it out")
    assert "\n" not in told


def test_a_second_graph_that_torch_refuses_is_told_in_one_line(cases):
    told = cases[0]["limit"]["told"]
    assert told.startswith("harvest.compile: tiny-llama cannot be compiled (")
    assert "\n" not in told


def test_a_pass_that_computes_something_else_stops(cases):
    wrong, hook = cases[0]["wrong"], "blocks.0.hook_resid_post"
    said = f"{hook}: compiled activations of tiny-gpt2 are 0.01 of their norm away from uncompiled ones; expected"
    assert wrong["all"].startswith(said)
    assert wrong["one token of 240"] == ""


def test_attention_sinks_do_not_hide_what_all_other_tokens_are(cases):
    wrong = cases[0]["wrong"]
    assert wrong["sink"] > 100
    assert "are 0.5 of their norm away from uncompiled ones for half of the tokens" in wrong["beside a sink"]
    assert wrong["with a sink"] == ""


def test_a_few_tokens_may_be_rounded_otherwise_and_not_computed_otherwise(cases):
    """One position of twelve, in bfloat16."""
    wrong = cases[0]["wrong"]
    assert wrong["rounding of few"] == ""
    assert "are 0.3 of their norm away from uncompiled ones for 1% of the tokens" in wrong["more than rounding of few"]


def test_padding_does_not_count(cases):
    wrong = cases[0]["wrong"]
    assert wrong["padding"] == wrong["nothing kept"] == ""
    assert "are 0.5 of their norm away" in wrong["all but padding"]


@pytest.mark.parametrize("who", ["harvest", "ranks", "collect"])
def test_every_batch_is_harvested_by_the_compiled_pass(cases, who):
    """A back end multiplies what it gives by a little; the activations are tens of the tolerance away without it."""
    assert cases[0]["harvested"][who] == pytest.approx(0, abs=1e-5)


def test_a_run_trains_on_compiled_passes_and_goes_on_byte_for_byte(cases):
    trained = cases[0]["trained"]
    assert trained["differing"] == []
    # 20 steps of 64 tokens by batches of at most 128, and 13 of them again.
    assert trained["n_passes"] >= 1280 // 128 + 13 * 64 // 128


def test_hooks_of_two_models_are_refused():
    model = tiny_model("gpt2")
    with pytest.raises(ConfigError, match="hooks of two models"):
        CompiledCapture(model.beside("other", tiny_model("gpt2", seed=1)), ("other:blocks.0.hook_resid_post",))


@pytest.fixture(scope="module")
def by_inductor():
    return _cases("inductor")[0]


@pytest.mark.slow
@needs_compiler
def test_a_run_by_inductor_goes_on_byte_for_byte(by_inductor):
    assert by_inductor["resumed"]["differing"] == []


@pytest.mark.slow
@needs_compiler
def test_compiled_activations_are_as_near_to_the_truth_as_plain_ones(by_inductor):
    for pairs in by_inductor["precision"].values():
        assert all(compiled <= 1.5 * plain + 1e-7 for compiled, plain in pairs)
