"""What a kill leaves of a run folder while it is begun, and what it must not replace."""

import pytest

from interp.datasets import DataConfig
from interp.errors import ConfigError
from interp.runs import RunFolder, RunManifest
from saes.sweep_config import SweepConfig
from saes.sweep_folder import SweepFolder

MINE, OTHER = DataConfig(context_size=16), DataConfig(context_size=32)


def _killed_before_its_manifest(path, config):
    RunFolder.begin(path, config, RunManifest.begin("sae", seed=0)).manifest_path.unlink()
    return RunFolder(path)


def test_a_run_killed_before_its_manifest_can_be_begun_again(tmp_path):
    run = _killed_before_its_manifest(tmp_path / "run", MINE)
    assert not run.started
    run.check_free(MINE)
    assert RunFolder.begin(run.path, MINE, RunManifest.begin("sae", seed=0)).config(DataConfig) == MINE


def test_another_config_is_not_replaced(tmp_path):
    run = _killed_before_its_manifest(tmp_path / "run", OTHER)
    for check in (lambda: run.check_free(MINE), run.check_free):
        with pytest.raises(ConfigError, match="would be replaced"):
            check()
    assert run.config(DataConfig) == OTHER


def test_a_run_that_was_begun_is_not_begun_again(tmp_path):
    run = RunFolder.begin(tmp_path / "run", MINE, RunManifest.begin("sae", seed=0))
    with pytest.raises(ConfigError, match="--resume"):
        run.check_free(MINE)


def test_a_sweep_killed_before_its_record_can_be_begun_again(tmp_path):
    base = {"hook": "blocks.0.hook_resid_post"}
    mine, other = (
        SweepConfig.parse({"base": base, "grid": {"seed": seeds}, "out": str(tmp_path)}, source="test")
        for seeds in ([0, 1], [2, 3])
    )
    folder = SweepFolder(tmp_path)
    folder.config_path.write_text(mine.to_yaml())
    folder.check_free(mine)
    with pytest.raises(ConfigError, match="would be replaced"):
        folder.check_free(other)
    (tmp_path / "runs").mkdir()
    with pytest.raises(ConfigError, match="would be replaced"):
        folder.check_free(mine)
