"""A compiled forward pass gives what the plain one gives (the cases are in tests/compiled_cases.py)."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from interp.compiled import CompiledCapture
from interp.errors import ConfigError, ModelError
from tests.families import tiny_model, tiny_tokens

ROOT = Path(__file__).parents[3]


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


def test_a_pass_that_computes_something_else_stops():
    model, hook = tiny_model("gpt2"), "blocks.0.hook_resid_post"
    read = CompiledCapture(model, (hook,))
    plain = CompiledCapture(model, (hook,))._run.__wrapped__
    read._run = lambda *given: tuple(1.01 * x for x in plain(*given))
    with pytest.raises(ModelError, match=rf"{hook}: compiled activations of tiny-gpt2 are 0.01 of their norm away"):
        read(tiny_tokens())


def test_hooks_of_two_models_are_refused():
    model = tiny_model("gpt2")
    with pytest.raises(ConfigError, match="hooks of two models"):
        CompiledCapture(model.beside("other", tiny_model("gpt2", seed=1)), ("other:blocks.0.hook_resid_post",))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch's compiler needs g++ on a CPU")
def test_compiled_activations_are_as_near_to_the_truth_as_plain_ones():
    found, _ = _cases("inductor")
    for pairs in found["precision"].values():
        assert all(compiled <= 1.5 * plain + 1e-7 for compiled, plain in pairs)
