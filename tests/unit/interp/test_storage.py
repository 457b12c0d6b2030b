import errno
import os
from pathlib import Path

import pytest
import torch

from interp import storage
from interp.errors import ArtifactError, StorageError


def test_tensors_come_back_as_they_were(tmp_path):
    tensors = {"a": torch.randn(3, 4), "b": torch.arange(5), "c": torch.randn(4, 2).bfloat16().t()}
    digest = storage.write_tensors(tmp_path / "x.safetensors", tensors)
    back = storage.read_tensors(tmp_path / "x.safetensors", sha256=digest)
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)
    assert storage.sha256_of(tmp_path / "x.safetensors") == digest


@pytest.mark.parametrize("damage", [lambda b: b[:-7], lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda b: b""])
def test_damage_is_named(tmp_path, damage):
    path = tmp_path / "x.safetensors"
    digest = storage.write_tensors(path, {"a": torch.randn(3, 4)})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ArtifactError, match=r"x\.safetensors"):
        storage.read_tensors(path, sha256=digest)


def test_a_truncated_file_without_a_hash_is_named(tmp_path):
    path = tmp_path / "x.safetensors"
    storage.write_tensors(path, {"a": torch.randn(3, 4)})
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ArtifactError, match="truncated"):
        storage.read_tensors(path)


def test_a_full_disk_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    storage.write_json(path, {"a": 1})

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="disk is full"):
        storage.write_json(path, {"a": 2})
    assert storage.read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "folder"

    def break_off():
        with storage.new_folder(path) as temporary:
            (temporary / "half").write_text("x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        break_off()
    assert list(tmp_path.iterdir()) == []
    with storage.new_folder(path) as temporary:
        (temporary / "whole").write_text("x")
    assert [p.name for p in path.iterdir()] == ["whole"]


def _folder(path, text):
    with storage.new_folder(path) as temporary:
        (temporary / "x").write_text(text)


def test_an_older_folder_is_there_until_the_new_one_is(tmp_path, monkeypatch):
    path = tmp_path / "folder"
    _folder(path, "old")
    replace = Path.replace

    def refused(self, target):
        if Path(target) == path and self.suffix == ".tmp":
            raise OSError(errno.EIO, "input/output error")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refused)
    with pytest.raises(StorageError):
        _folder(path, "new")
    monkeypatch.undo()
    assert (path / "x").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("killed", ["before", "after"])
def test_a_kill_while_a_folder_is_replaced_loses_nothing(tmp_path, killed):
    path, aside = tmp_path / "folder", tmp_path / ".folder.old"
    _folder(aside, "old")
    if killed == "after":
        _folder(path, "new")
    storage.restore_folder(path)
    assert (path / "x").read_text() == {"before": "old", "after": "new"}[killed]
    assert not aside.exists()
    _folder(path, "newest")
    assert (path / "x").read_text() == "newest"
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_a_folder_does_not_replace_a_file(tmp_path):
    (tmp_path / "folder").write_text("x")
    with pytest.raises(StorageError, match="a file stands"):
        _folder(tmp_path / "folder", "new")
    assert (tmp_path / "folder").read_text() == "x"


def test_a_file_where_a_folder_is_needed_is_told(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="a file stands where a folder is needed"):
        storage.make_folder(tmp_path / "file")


def test_json_refuses_nan_and_names_damage(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        storage.write_json(tmp_path / "x.json", {"a": float("nan")})
    (tmp_path / "x.json").write_text('{"a": ')
    with pytest.raises(ArtifactError, match="not valid JSON"):
        storage.read_json(tmp_path / "x.json")
    with pytest.raises(ArtifactError, match="no such file"):
        storage.read_json(tmp_path / "none.json")


def test_a_new_file_is_there_whole_or_not_at_all(tmp_path):
    path = tmp_path / "x.bin"
    with storage.new_file(path) as temporary:
        temporary.write_bytes(b"one")
        assert not path.exists()
    assert path.read_bytes() == b"one"
    with pytest.raises(UnicodeEncodeError), storage.new_file(path) as temporary:
        temporary.write_text("t\ud800", encoding="utf-8")
    assert path.read_bytes() == b"one"
    with pytest.raises(StorageError), storage.new_file(path):
        pass
    assert [found.name for found in tmp_path.iterdir()] == ["x.bin"]


def _left_by_a_kill(path):
    left = path.with_name(f".{path.name}.0123abcd.tmp")
    left.write_text("half")
    return left


def _write_anew(path):
    if path.name == "folder":
        _folder(path, "new")
    elif path.name == "table":
        with storage.new_file(path) as temporary:
            temporary.write_text("new")
    else:
        storage.write_text(path, "new")


@pytest.mark.parametrize("name", ["file", "table", "folder"])
def test_what_a_killed_writer_left_goes_when_its_file_is_written(tmp_path, name):
    path, other = tmp_path / name, _left_by_a_kill(tmp_path / "other")
    left = _left_by_a_kill(path)
    if name == "folder":
        left.unlink()
        left.mkdir()
        (left / "half").write_text("half")
    _write_anew(path)
    assert not left.exists()
    assert other.exists()


@pytest.mark.parametrize("name", ["file", "table", "folder"])
def test_what_another_writer_is_at_stays(tmp_path, name):
    """Two writers of one name: neither takes the other's half-written file, the last one to end stays."""
    path = tmp_path / name
    writer = storage.new_folder(path) if name == "folder" else storage.new_file(path)
    with writer as temporary:
        (temporary / "x" if name == "folder" else temporary).write_text("slow")
        _write_anew(path)
    assert (path / "x" if name == "folder" else path).read_text() == "slow"
    assert [p.name for p in tmp_path.iterdir()] == [name]
