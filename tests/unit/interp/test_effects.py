"""An effect is found by its labels, and what is wrong with them is named."""

import numpy as np
import pytest

from interp.effects import Axis, EffectGrid, axis_of
from interp.errors import ShapeError
from tests.unchecked import unchecked

AXES = (Axis("component", ("attn", "mlp")), axis_of("layer", range(3)), axis_of("position", range(50)))


@pytest.fixture(scope="module")
def grid():
    effect = np.random.default_rng(0).normal(size=(2, 3, 50))
    return EffectGrid(AXES, effect, None, "ablation", "logit difference", "logits", 5)


def test_each_place_is_found_by_its_labels(grid):
    assert grid.at(position="41", component="mlp", layer="2") == grid.effect[1, 2, 41]


def test_what_is_wrong_is_named_with_what_there_is(grid):
    with pytest.raises(ShapeError, match=r"^component: got 'resid'; its labels, which are strings, are 'attn', 'mlp'$"):
        grid.at(component="resid", layer="1", position="0")
    with unchecked(), pytest.raises(ShapeError, match=r"^layer: got 1; its labels, .* are '0', '1', '2'$"):
        grid.at(component="mlp", layer=1, position="0")
    with pytest.raises(ShapeError, match=r"^got no label of axis 'position'; .*: component, layer, position$"):
        grid.at(component="mlp", layer="1")
    with pytest.raises(ShapeError, match=r"^got axis 'head'; this grid's axes are component, layer, position$"):
        grid.at(component="mlp", layer="1", position="0", head="3")
    with pytest.raises(ShapeError, match=r"^position: got '50'; .*'29' and 20 more$"):
        grid.at(component="mlp", layer="1", position="50")
