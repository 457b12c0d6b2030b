"""Configs: frozen, validated on construction, read from YAML, overridden by flags.

A config describes a run. What changes while it runs is state (see interp.loop.TrainState), never config.
"""

import difflib
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from interp.errors import ConfigError

C = TypeVar("C", bound="Config")
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class Config(BaseModel):
    """Base of all configs. The docstring under a field becomes its help on the command line."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False, protected_namespaces=()
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Tell the fields, their defaults and what they do in the class's own docstring, for `help` and notebooks."""
        told = "\n".join(f"    {name}{_told(field)}" for name, field in cls.model_fields.items())
        cls.__doc__ = f"{inspect.cleandoc(cls.__doc__ or '')}\n\nFields:\n{told}"

    if not TYPE_CHECKING:

        def __init__(self, /, **values: Any) -> None:
            """Raises: ConfigError in one line, as `parse` does."""
            try:
                super().__init__(**values)
            except ValidationError as error:
                raise ConfigError(f"{type(self).__name__}: {_explain(type(self), error)}") from None

        # So that pydantic builds nested configs itself: their errors then name the key from the outermost on.
        __init__.__pydantic_base_init__ = True

    @classmethod
    def parse(cls: type[C], values: Mapping[str, Any], *, source: str = "config") -> C:
        """Build from plain values.

        Raises: ConfigError in one line, naming the key, what was got and, for an unknown key, the closest known one.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise ConfigError(f"{source}: {_explain(cls, error)}") from None

    @classmethod
    def load(cls: type[C], path: Path | str | None = None, overrides: Mapping[str, Any] | None = None) -> C:
        """Read YAML (none: all defaults), then apply overrides keyed by dotted name (`sae.k`).

        Raises: ConfigError if the file is missing, is not a YAML mapping, or does not fit the fields.
        """
        values = read_yaml(Path(path)) if path is not None else {}
        for dotted, value in (overrides or {}).items():
            _set_dotted(values, dotted, value)
        return cls.parse(values, source=str(path) if path is not None else "flags")

    def to_yaml(self) -> str:
        """All fields, defaults included, so that the text alone repeats the run."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

    @classmethod
    def leaves(cls, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
        """Every plain field with its dotted name, nested configs opened."""
        for name, field in cls.model_fields.items():
            if (inner := _config_of(field)) is not None:
                yield from inner.leaves(f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}", field


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping from disk.

    Raises: ConfigError if it is missing, unreadable or not a mapping.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such config file; give the path of a YAML file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({_one_line(error)}); give the path of a YAML text file") from None
    except (yaml.YAMLError, ValueError) as error:
        # A ValueError is a date that does not exist.
        told = _one_line(error).replace(' in "<unicode string>"', "")
        raise ConfigError(f"{path}: not valid YAML ({told})") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: got a YAML {type(values).__name__}; expected `key: value` lines")
    return values


def closest(word: str, known: list[str]) -> str:
    """` Did you mean ...?`, or the known words if none is near."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known: {', '.join(known)}"


def _set_dotted(values: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        inner = values.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{parent}: got {inner!r}; expected a group of settings, since {dotted} was given")
        values = inner
    values[last] = value


def _explain(cls: type[Config], error: ValidationError) -> str:
    """All that is wrong, in one line: unknown keys first, since one of them may be the key that is missing."""
    order = {"extra_forbidden": 0, "missing": 2}
    told: dict[str, str] = {}
    for one in sorted(error.errors(), key=lambda one: order.get(one["type"], 1)):
        dotted = ".".join(str(part) for part in one["loc"])
        # Of a field that takes several kinds, each kind says why it does not fit: the first is enough.
        field = next((name for name, _ in cls.leaves() if dotted.startswith(f"{name}.")), dotted)
        told.setdefault(field, _explain_one(cls, one))
    return "; also ".join(told.values())


def _explain_one(cls: type[Config], one: ErrorDetails) -> str:
    dotted = ".".join(str(part) for part in one["loc"])
    if one["type"] == "extra_forbidden":
        return f"unknown key {dotted!r}; {closest(dotted, [name for name, _ in cls.leaves()])}"
    if one["type"] == "missing":
        return f"{dotted!r} is missing; add it to the file or give --{dotted.replace('_', '-')}"
    message = one["msg"].removeprefix("Value error, ")
    where = f"{dotted}: " if dotted else ""
    got = "" if isinstance(one["input"], dict) else f"got {one['input']!r}; "
    return f"{where}{got}{message[:1].lower()}{message[1:]}"


def _config_of(field: FieldInfo) -> type[Config] | None:
    """The config that a field holds, if it holds one."""
    held = field.annotation
    return held if isinstance(held, type) and issubclass(held, Config) else None


def _told(field: FieldInfo) -> str:
    if (inner := _config_of(field)) is not None:
        return f": see {inner.__name__}"
    value = field.get_default(call_default_factory=True, validated_data={})
    default = "" if field.is_required() else f" = {str(value) if isinstance(value, Path) else value!r}"
    return f"{default}: {_one_line(field.description)}" if field.description else default


def _one_line(text: object) -> str:
    return " ".join(str(text).split())
