"""The log of a pass: shards of another pass are never taken for this one's."""

import pytest
import torch

from interp.errors import ArtifactError
from interp.storage import read_json, write_json
from saes.feature_pass.spill import LOG_FILE, Spill


def _shard(value):
    values = torch.tensor([value])
    return {"keep": torch.ones(1, dtype=torch.bool), "feature_values": values}


def _begun(folder, name, *, n_shards=2):
    spill = Spill(folder, {"pass": name})
    for number in range(n_shards):
        spill.add(_shard(float(number)), number + 1)
    return spill


def test_the_same_pass_goes_on(tmp_path):
    begun = _begun(tmp_path, "a")
    again = Spill(tmp_path, {"pass": "a"})
    assert again.records == begun.records
    assert [file.name for file in sorted(tmp_path.glob("shard_*"))] == [record.file for record in begun.records]


def test_shards_of_two_passes_never_mix(tmp_path):
    _begun(tmp_path, "a")
    # Killed before its first shard, or after it but before the log: the first pass must not find its log again.
    Spill(tmp_path, {"pass": "b"})
    assert not list(tmp_path.glob("shard_*"))
    assert read_json(tmp_path / LOG_FILE)["facts"] == {"pass": "b"}
    assert Spill(tmp_path, {"pass": "a"}).records == []


def test_a_log_of_another_version_is_not_gone_on_with(tmp_path):
    _begun(tmp_path, "a")
    log = read_json(tmp_path / LOG_FILE)
    write_json(tmp_path / LOG_FILE, {**log, "version": 0, "shards": [{"name": "x"}]})
    assert Spill(tmp_path, {"pass": "a"}).records == []


def test_a_damaged_log_is_named(tmp_path):
    _begun(tmp_path, "a")
    log = read_json(tmp_path / LOG_FILE)
    for shards in ([{"name": "x"}], [1], None):
        write_json(tmp_path / LOG_FILE, {**log, "shards": shards})
        with pytest.raises(ArtifactError, match=r"pass\.json: damaged"):
            Spill(tmp_path, {"pass": "a"})


def test_what_a_kill_left_is_removed(tmp_path):
    _begun(tmp_path, "a", n_shards=1)
    (tmp_path / "shard_00001.safetensors").write_bytes(b"no log names it")
    (tmp_path / ".x.tmp").mkdir()
    Spill(tmp_path, {"pass": "a"})
    assert {path.name for path in tmp_path.iterdir()} == {LOG_FILE, "shard_00000.safetensors"}


@pytest.mark.parametrize("n_gone", [0, 1, 2])
def test_a_pass_killed_while_it_is_removed_begins_anew(tmp_path, monkeypatch, n_gone):
    """Whatever is gone of its shards, the next pass does not look for them."""
    folder = tmp_path / "a.partial"
    spill = _begun(folder, "a")
    spill.finish()

    def killed(path):
        for shard in sorted(path.glob("shard_*"))[:n_gone]:
            shard.unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr("saes.feature_pass.spill.shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        spill.remove()
    monkeypatch.undo()
    again = Spill(folder, {"pass": "a"})
    assert (again.records, again.complete) == ([], False)
    assert {path.name for path in folder.iterdir()} == {LOG_FILE}
    again.remove()
    assert not folder.exists()
