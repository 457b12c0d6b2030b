"""Edits of codes refuse what would do nothing, or make numbers that are none."""

import math

import numpy as np
import pytest
import torch

from interp.code import Code
from interp.code_edits import ablate_features, check_features, pin_features, shift_features
from interp.errors import ConfigError
from tests.unchecked import unchecked

CODE = Code.from_dense(torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.5, 3.0]]))


@pytest.mark.parametrize("feature", [1.5, 1.0, "1", True, np.float32(1), np.True_, torch.tensor(True)])
def test_a_feature_is_a_whole_number(feature):
    for make in (ablate_features, lambda one: pin_features({one: 1.0}), lambda one: shift_features({one: 1.0})):
        with unchecked(), pytest.raises(ConfigError, match=r"^got feature .*; expected an integer"):
            make(feature)
    with unchecked(), pytest.raises(ConfigError, match="expected an integer"):
        check_features((feature,), 3)


@pytest.mark.parametrize("feature", [1, np.int64(1), torch.tensor(1)])
def test_whole_numbers_of_any_library_are_the_same_feature(feature):
    with unchecked():
        assert torch.equal(ablate_features(feature)(CODE).dense(), CODE.dense() * torch.tensor([1.0, 0.0, 1.0]))


@pytest.mark.parametrize("feature", [-1, 3])
def test_a_feature_is_one_of_the_dictionary(feature):
    for change in (ablate_features(feature), pin_features({feature: 1.0}), shift_features({feature: 1.0})):
        with pytest.raises(ConfigError, match=rf"got feature {feature}; the SAE has 3 features"):
            change(CODE)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("make", [pin_features, shift_features])
def test_what_a_feature_is_held_at_is_finite(make, value):
    with pytest.raises(ConfigError, match=rf"got activation {value} for feature 2; expected a finite number"):
        make({0: 1.0, 2: value})
