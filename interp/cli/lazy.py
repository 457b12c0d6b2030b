"""Groups of commands that tell what each does in full; of some, modules are read when a command is used."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


class ToldGroup(click.Group):
    """A group whose help gives the first sentence of each command whole, however long."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """A line or more for each."""
        names = self.list_commands(ctx)
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.commands[name].get_short_help_str(limit=1000)) for name in names])


class LazyGroup(click.Group):
    """A group whose list need not wait for torch: each is the `command` of a module, named beside its line of help."""

    def __init__(self, *given: Any, modules: Mapping[str, tuple[str, str]], **more: Any) -> None:
        super().__init__(*given, **more)
        self.modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Names in the order in which they were given."""
        return list(self.modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command, whose module is read now; None if there is none of this name."""
        if cmd_name not in self.modules:
            return None
        command: click.Command = import_module(self.modules[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """A line for each, without reading its module."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.modules.items()])
