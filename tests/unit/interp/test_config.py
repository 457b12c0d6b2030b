from typing import Literal

import pytest
from pydantic import Field

from interp.config import Config
from interp.counts import TokenCount, parse_count
from interp.errors import ConfigError


class Inner(Config):
    k: int = Field(8, ge=1)
    """How many."""


class Outer(Config):
    name: str
    """Which."""
    tokens: TokenCount = 100
    """How long."""
    inner: Inner = Inner()


class Several(Outer):
    at: Literal["last"] | int = "last"
    """Where."""


def test_flags_override_the_file(tmp_path):
    (tmp_path / "c.yaml").write_text("name: a\ninner: {k: 4}\n")
    config = Outer.load(tmp_path / "c.yaml", {"inner.k": "16", "tokens": "2k"})
    assert (config.name, config.inner.k, config.tokens) == ("a", 16, 2000)


def test_yaml_of_a_config_gives_the_same_config(tmp_path):
    config = Outer(name="ä", tokens=5, inner=Inner(k=3))
    (tmp_path / "c.yaml").write_text(config.to_yaml(), encoding="utf-8")
    assert Outer.load(tmp_path / "c.yaml") == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "a", "nmae": "b"}, "Outer: unknown key 'nmae'; did you mean 'name'?"),
        ({"name": "a", "inner": {"kk": 4}}, "Outer: unknown key 'inner.kk'; did you mean 'inner.k'?"),
        ({"name": "a", "inner": {"k": 0}}, "Outer: inner.k: got 0; input should be greater than or equal to 1"),
        ({"name": "a", "tokens": "some"}, "Outer: tokens: got 'some'"),
    ],
)
def test_what_is_wrong_in_a_script_is_told_in_one_line_too(values, message):
    with pytest.raises(ConfigError) as told:
        Outer(**values)
    assert str(told.value).startswith(message)
    assert "\n" not in str(told.value)


def test_help_tells_the_fields():
    lines = [line.strip() for line in Outer.__doc__.splitlines()]
    assert lines[-3:] == ["name: Which.", "tokens = 100: How long.", "inner: see Inner"]


def test_configs_do_not_change():
    with pytest.raises(Exception, match="frozen"):
        Outer(name="a").name = "b"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nnmae: b\n", "unknown key 'nmae'; did you mean 'name'"),
        ("name: a\ninner: {kk: 4}\n", "unknown key 'inner.kk'; did you mean 'inner.k'"),
        ("name: a\ninner: {k: 0}\n", "inner.k: got 0"),
        ("name: a\ninner: {k: two}\n", "inner.k: got 'two'"),
        ("inner: {k: 2}\n", "'name' is missing"),
        (
            "nmae: b\ninner: {k: 0}\n",
            "unknown key 'nmae'; did you mean 'name'?; also inner.k: got 0; input should be greater than or equal "
            "to 1; also 'name' is missing",
        ),
        ("name: a\ninner: 5\n", "inner: got 5"),
        ("- 1\n", "got a YAML list"),
        ("name: [\n", "not valid YAML"),
    ],
)
def test_a_bad_file_is_told_in_one_line(tmp_path, text, message):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        Outer.load(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_each_field_says_once_what_is_wrong():
    """A field of several kinds fails for each of them."""
    with pytest.raises(ConfigError) as told:
        Several(name="a", at="x", tokens="some")
    first, second = str(told.value).split("; also ")
    assert first.startswith("Several: tokens: got 'some'")
    assert second.startswith("at.")


def test_bad_yaml_is_told_by_line_and_column(tmp_path):
    (tmp_path / "c.yaml").write_text("name: [1\nk: 2\n")
    with pytest.raises(ConfigError, match=r"line 1, column 7.*line 2, column 2") as told:
        Outer.load(tmp_path / "c.yaml")
    assert "unicode string" not in str(told.value)


def test_missing_and_binary_files_are_told(tmp_path):
    with pytest.raises(ConfigError, match="no such config file"):
        Outer.load(tmp_path / "none.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        Outer.load(tmp_path / "b.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        Outer.load(tmp_path)


def test_a_flag_cannot_open_a_plain_value(tmp_path):
    (tmp_path / "c.yaml").write_text("name: a\ninner: 3\n")
    with pytest.raises(ConfigError, match="group of settings"):
        Outer.load(tmp_path / "c.yaml", {"inner.k": "2"})


@pytest.mark.parametrize(
    ("text", "count"),
    [("300k", 300_000), ("4M", 4_000_000), ("1.5B", 1_500_000_000), ("2e6", 2_000_000), ("2_000", 2000), ("7", 7)],
)
def test_counts_are_read_as_people_write_them(text, count):
    assert parse_count(text) == count


@pytest.mark.parametrize("text", ["many", "-4", "1.5", "4T", ""])
def test_what_is_no_count_is_refused(text):
    with pytest.raises(ConfigError, match="tokens"):
        Outer.load(None, {"name": "a", "tokens": text})
