"""Configs load, every command teaches, and what the README says can be run."""

import re
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from interp.cli import cli
from interp.codebooks.config import CodebookConfig
from interp.config import read_yaml
from interp.lenses.config import LensConfig
from saes.sweep_config import SweepConfig
from saes.training import TrainConfig

ROOT = Path(__file__).parents[2]
# A codebook SAE is trained like any SAE; the others are put into a model.
CODEBOOK_CONFIGS = sorted(p for p in (ROOT / "configs").glob("codebook_*.yaml") if p.stem != "codebook_sae")
TRAIN_CONFIGS = sorted(
    p
    for p in (ROOT / "configs").glob("*.yaml")
    if not p.name.startswith(("pretrain", "sweep", "lens", "probe")) and p not in CODEBOOK_CONFIGS
)
LENS_CONFIGS = sorted((ROOT / "configs").glob("lens*.yaml"))
SWEEP_CONFIGS = sorted((ROOT / "configs").glob("sweep*.yaml"))


def _commands() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []

    def walk(command: click.Command, path: tuple[str, ...]) -> None:
        found.append(path)
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None
                walk(inner, (*path, name))

    walk(cli, ())
    return found


@pytest.mark.parametrize("path", TRAIN_CONFIGS, ids=lambda path: path.stem)
def test_every_training_config_loads_and_says_what_it_is(path):
    config = TrainConfig.load(path)
    assert config.n_steps > 0
    assert path.read_text().startswith("#")


@pytest.mark.parametrize("path", SWEEP_CONFIGS, ids=lambda path: path.stem)
def test_every_sweep_config_loads_and_says_what_it_is(path):
    assert len(SweepConfig.load(path).members()) > 1
    assert path.read_text().startswith("#")


@pytest.mark.parametrize("path", LENS_CONFIGS, ids=lambda path: path.stem)
def test_every_lens_config_loads_and_says_what_it_is(path):
    assert LensConfig.load(path).n_steps > 0
    assert path.read_text().startswith("#")


@pytest.mark.parametrize("path", CODEBOOK_CONFIGS, ids=lambda path: path.stem)
def test_every_codebook_config_loads_and_says_what_it_is(path):
    assert CodebookConfig.load(path).n_steps > 0
    assert path.read_text().startswith("#")


def test_the_pretraining_config_loads():
    from interp.pretraining.config import PretrainConfig

    assert PretrainConfig.load(ROOT / "configs" / "pretrain_embedded.yaml").n_steps > 0


@pytest.mark.parametrize("path", _commands(), ids=" ".join)
def test_every_command_teaches(path):
    result = CliRunner().invoke(cli, [*path, "--help"])
    assert result.exit_code == 0
    assert len(result.output) > 200
    if path and path[-1] != "study":
        assert "Examples:" in result.output


@pytest.mark.parametrize("path", [p for p in _commands() if p], ids=" ".join)
def test_every_setting_has_a_help_text(path):
    command: click.Command = cli
    for name in path:
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), name) or command
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"interp {' '.join(path)} {parameter.opts[0]}"


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_commands_in_the_documents_exist(name):
    blocks = re.findall(r"```(?:bash|sh|console)\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    makefile = (ROOT / "Makefile").read_text()
    checked = 0
    for words in (shlex.split(line) for line in lines if line):
        if words[0] == "make":
            assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in words[1:]), words
            checked += 1
        if words[0] == "interp":
            _check_arguments(words)
            checked += 1
    assert checked


def _check_arguments(words: list[str]) -> None:
    command: click.Command = cli
    rest = words[1:]
    while isinstance(command, click.Group):
        inner = command.get_command(click.Context(command), rest[0])
        assert inner is not None, words
        command, rest = inner, rest[1:]
    command.make_parser(click.Context(command)).parse_args(list(rest))


def test_readme_python_blocks_are_valid():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        compile(block, "README.md", "exec")


def test_pictures_and_files_that_documents_name_exist():
    for name in ("README.md", "CONTRIBUTING.md", "benchmarks/FIGURES.md", "benchmarks/README.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / name).read_text(encoding="utf-8")):
            assert (ROOT / name).parent.joinpath(target).exists(), f"{name} names {target}"


def test_what_measures_the_figures_exists():
    commands = re.findall(
        r"`([^`]*(?:benchmarks/|interp |-m tests)[^`]*)`", (ROOT / "benchmarks" / "FIGURES.md").read_text()
    )
    assert commands
    for command in commands:
        words = command.split("#")[0].split()
        if "interp" in words:
            inner = cli.get_command(click.Context(cli), words[words.index("interp") + 1])
            assert inner is not None, command
        for word in words:
            assert not word.startswith(("benchmarks/", "configs/")) or (ROOT / word).exists(), command


def test_the_quickstart_fits_the_demo():
    assert read_yaml(ROOT / "configs" / "quickstart.yaml")["model"] == "embedded"
    assert "configs/quickstart.yaml" in (ROOT / "Makefile").read_text()
