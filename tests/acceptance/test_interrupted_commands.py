"""Ctrl-C: how to go on is told where there is something to go on with, and nowhere else."""

import subprocess
import sys
from importlib import import_module

import click
import pytest

from interp.cli import _COMMANDS, main


def _interrupt(*_, **__):
    raise KeyboardInterrupt


def _leaves():
    for name, (module, _) in _COMMANDS.items():
        command = import_module(module).command
        if isinstance(command, click.Group):
            context = click.Context(command)
            for below in command.list_commands(context):
                yield pytest.param([name, below], command.get_command(context, below), id=f"{name} {below}")
        else:
            yield pytest.param([name], command, id=name)


@pytest.mark.parametrize(("words", "command"), list(_leaves()))
def test_resume_is_advised_where_it_is_an_option(words, command, monkeypatch, capsys):
    monkeypatch.setattr(command, "make_context", _interrupt)
    assert main([*words, "anything"]) == 130
    told = capsys.readouterr().err.strip()
    assert told.startswith("interp: interrupted")
    assert ("--resume" in told) == any("--resume" in option.opts for option in command.params)


@pytest.mark.parametrize(
    ("words", "goes_on"),
    [
        (["features", "runs/x"], True),
        (["study", "null-arms"], True),
        (["study", "feature-sample", "runs/x"], True),
        (["study", "matryoshka-toy"], False),
        (["encode", "runs/x"], False),
        (["plan"], False),
        (["import", "folder"], False),
    ],
)
def test_the_same_command_is_advised_where_it_goes_on(words, goes_on, monkeypatch, capsys):
    command = import_module(_COMMANDS[words[0]][0]).command
    monkeypatch.setattr(command, "make_context", _interrupt)
    assert main(words) == 130
    assert ("the same command goes on" in capsys.readouterr().err) == goes_on


@pytest.mark.parametrize("words", [[], ["study"]])
def test_a_group_alone_prints_its_help_as_it_is(words, capsys):
    assert main(words) == 2
    told = capsys.readouterr()
    assert told.out.startswith(f"Usage: {' '.join(['interp', *words])} [OPTIONS] COMMAND")
    assert told.out.count("\n") > 10
    assert told.err == ""


def test_a_reader_that_has_had_enough_gets_no_traceback():
    command = [sys.executable, "-m", "interp", "study"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode in (1, 2)
