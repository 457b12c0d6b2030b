"""Config fields as command-line flags: dotted names, help from the docstring under each field, sections per group."""

import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from interp.config import Config

C = TypeVar("C", bound=Config)
F = TypeVar("F", bound=Callable[..., Any])


class ConfigCommand(click.Command):
    """A command whose --help shows its settings in sections, one per group of the config."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            dotted = parameter.opts[0].removeprefix("--") if isinstance(parameter, ConfigOption) else ""
            title = f"Settings: {dotted.split('.')[0]}" if "." in dotted else "Settings" if dotted else "Options"
            sections.setdefault(title, []).append(record)
        for title in sorted(sections, key=lambda t: (t == "Options", t)):
            with formatter.section(title):
                formatter.write_dl(sections[title])


class ConfigOption(click.Option):
    """A flag that stands for one field of a config."""


def config_options(cls: type[Config], *, aliases: Mapping[str, str] | None = None) -> Callable[[F], F]:
    """One flag per field of `cls` (nested ones dotted), each unset unless given; `aliases` adds short spellings."""

    def decorate(function: F) -> F:
        for dotted, field in reversed(list(cls.leaves())):
            names = [flag_of(dotted)]
            if aliases and dotted in aliases:
                names.append(aliases[dotted])
            option = click.option(
                *names, _variable(dotted), cls=ConfigOption, default=None, metavar=_metavar(field), help=_help(field)
            )
            function = option(function)
        return function

    return decorate


def overrides_from(cls: type[Config], flags: dict[str, Any]) -> dict[str, Any]:
    """Take the config's flags out of a command's keyword arguments; those that were given, by dotted name."""
    given = {}
    for dotted, field in cls.leaves():
        value = flags.pop(_variable(dotted), None)
        if value is not None:
            given[dotted] = _plain(value, field)
    return given


def flag_of(dotted: str) -> str:
    """How a field is spelt on the command line."""
    return "--" + dotted.replace("_", "-")


def _variable(dotted: str) -> str:
    return "config__" + dotted.replace(".", "__").lower()


def _plain(text: str, field: FieldInfo) -> Any:
    kinds = _kinds(field.annotation)
    if text.lower() in ("none", "null") and type(None) in kinds:
        return None
    if any(typing.get_origin(kind) in (tuple, list) for kind in kinds):
        return [part.strip() for part in text.strip("[]()").split(",") if part.strip()]
    return text


def _kinds(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) is typing.Annotated:
        return _kinds(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return tuple(kind for held in typing.get_args(annotation) for kind in _kinds(held))
    return (annotation,)


def _metavar(field: FieldInfo) -> str:
    names = []
    for kind in _kinds(field.annotation):
        if typing.get_origin(kind) is typing.Literal:
            names.append("|".join(str(choice) for choice in typing.get_args(kind)))
        elif typing.get_origin(kind) in (tuple, list):
            names.append("TEXT,TEXT,…" if typing.get_args(kind)[0] is str else "N,N,…")
        elif kind is bool:
            names.append("true|false")
        elif kind is not type(None):
            names.append({"str": "TEXT", "int": "N", "float": "X"}.get(kind.__name__, kind.__name__.upper()))
    return "|".join(names)


def _help(field: FieldInfo) -> str:
    text = " ".join((field.description or "").split())
    if field.default is PydanticUndefined or field.default in (None, ()):
        return text if field.default is not PydanticUndefined else f"{text} [required]"
    default = str(field.default).lower() if isinstance(field.default, bool) else field.default
    return f"{text} [{default}]"
