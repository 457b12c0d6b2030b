import numpy as np
import pytest
import torch

from interp.errors import ConfigError, DataError, ShapeError
from interp.hooks import capture
from interp.lenses.future import FutureLens
from interp.lenses.grid import LensGrid, encode_text, read_future, read_logit, read_tuned
from interp.lenses.logit import logit_lens
from interp.lenses.transplant import N_CONTEXT
from interp.lenses.tuned import TunedLens
from tests.families import tiny_model, tiny_tokens

MODEL = tiny_model("gpt2")
TEXT = "w7 w9 w30 w7 w12"


def test_each_cell_is_the_lens_at_that_layer_and_token():
    tokens = encode_text(MODEL, TEXT)
    grid = read_logit(MODEL, tokens)
    assert grid.tokens == (0, 7, 9, 30, 7, 12)
    for layer, x in enumerate(capture(MODEL, tokens, grid.hooks).values()):
        expected = logit_lens(MODEL, x[0]).softmax(-1).topk(5)
        assert grid.top[layer, :, 0].tolist() == expected.indices.tolist()
        np.testing.assert_allclose(grid.probability[layer, :, 0], expected.values, rtol=1e-5)
    np.testing.assert_allclose(grid.mean_probability, grid.probability[:, :, 0, 0])


def test_an_untrained_tuned_lens_gives_the_logit_lens_grid():
    tokens = encode_text(MODEL, TEXT)
    assert np.array_equal(read_tuned(TunedLens(MODEL), tokens).top, read_logit(MODEL, tokens).top)


def test_a_future_lens_reads_each_state_alone():
    """What stands before a token matters through its state only, what stands behind it not at all."""
    lens = FutureLens(MODEL, contexts=tiny_tokens(4, N_CONTEXT), n_distances=3, methods=["learned_prompt"])
    grid = read_future(lens, encode_text(MODEL, TEXT), method="learned_prompt")
    shorter = read_future(lens, encode_text(MODEL, "w7 w9 w30"), method="learned_prompt")
    assert grid.top.shape == (4, 6, 3, 5)
    assert np.array_equal(grid.top[:, :4], shorter.top)
    with pytest.raises(ConfigError, match="got linear_vocab, blind"):
        read_future(lens, encode_text(MODEL, TEXT), method="linear_vocab")


def test_a_reconstruction_is_read_at_its_hook_but_bos_stays():
    tokens = encode_text(MODEL, TEXT)
    plain = read_logit(MODEL, tokens)
    hook = "blocks.1.hook_resid_post"
    other = read_logit(MODEL, tokens, reconstruct={hook: torch.zeros_like})
    assert np.array_equal(other.probability[2, 0], plain.probability[2, 0])
    assert not np.allclose(other.probability[2, 1:], plain.probability[2, 1:])
    for layer in (0, 1, 3):
        assert np.array_equal(other.probability[layer], plain.probability[layer])
    with pytest.raises(ShapeError, match=r"got a reconstruction of ln_final\.hook_out"):
        read_logit(MODEL, tokens, reconstruct={"ln_final.hook_out": torch.zeros_like})


def test_texts_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="got no token"):
        encode_text(MODEL, "")
    with pytest.raises(DataError, match="expected 1 to 24, BOS included"):
        encode_text(MODEL, "w5 " * 30)
    assert encode_text(MODEL, "w5 " * 30, cut=True).tolist() == [[0] + [5] * 23]


def test_several_rows_are_refused():
    rows = encode_text(MODEL, TEXT).repeat(2, 1)
    for read in (lambda: read_logit(MODEL, rows), lambda: read_tuned(TunedLens(MODEL), rows)):
        with pytest.raises(ShapeError, match="got 2 rows; expected 1"):
            read()


def test_it_saves_loads_and_prints(tmp_path):
    grid = read_logit(MODEL, encode_text(MODEL, TEXT))
    grid.save(tmp_path / "grid.json")
    again = LensGrid.load(tmp_path / "grid.json")
    assert (again.tokens, again.hooks, again.vocabulary) == (grid.tokens, grid.hooks, grid.vocabulary)
    assert np.array_equal(again.top, grid.top)
    np.testing.assert_allclose(again.probability, grid.probability, atol=5e-6)
    assert "<th> w30</th>" in grid._repr_html_()
