"""What a run's config promises of its number of active features."""

import pytest

from interp.health.expected import expected_of
from saes.config import SAEConfig


def written(folder, **sae: object):
    lines = [f"  {key}: {'null' if value is None else str(value).lower()}" for key, value in sae.items()]
    (folder / "config.yaml").write_text("\n".join(["sae:", *lines]))
    return expected_of(folder)


@pytest.mark.parametrize("control", [None, True, False])
@pytest.mark.parametrize("target", [None, 5.0])
@pytest.mark.parametrize("weight", [None, 0.3])
@pytest.mark.parametrize("architecture", ["standard", "topk"])
def test_a_run_is_held_to_a_target_where_it_is_steered(tmp_path, control, target, weight, architecture):
    settings = {"architecture": architecture, "k": 8, "l0_control": control, "l0_target": target}
    config = SAEConfig.parse({**settings, "l1_coefficient": weight})
    told = written(tmp_path, **settings, l1_coefficient=weight)
    assert told.l0_target == (config.wanted_l0 if config.l0_controlled else None)


def test_a_run_from_before_there_was_a_switch_is_held_to_a_target_that_it_names(tmp_path):
    old = {"architecture": "standard", "k": 8, "l1_coefficient": 0.001}
    assert written(tmp_path, **old, l0_target=None).l0_target is None
    assert written(tmp_path, **old, l0_target=5.0).l0_target == 5.0
