"""Every command that takes a device says that it may be named by its number."""

import click

from interp.cli import cli


def _commands(command, words=()):
    if not isinstance(command, click.Group):
        return {" ".join(words): command}
    context, found = click.Context(command), {}
    for name in command.list_commands(context):
        found |= _commands(command.get_command(context, name), (*words, name))
    return found


def test_devices_are_told_alike():
    told = {
        words: option.help
        for words, command in _commands(cli).items()
        for option in command.params
        if isinstance(option, click.Option) and "--device" in option.opts
    }
    assert {"evaluate", "encode", "features"} <= told.keys()
    assert {words for words, text in told.items() if "cuda (cuda:1 for the second GPU)" not in (text or "")} == set()
