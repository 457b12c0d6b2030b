"""The page's own code: ES modules and style sheets in web/, joined into one script without a build step."""

import re
from collections.abc import Sequence
from importlib.resources import files

STYLES = ("base.css", "layout.css", "table.css", "feature.css", "overview.css", "explore.css")
ENTRY = "app.js"
WATCH_STYLES, WATCH_ENTRY = ("base.css", "watch.css"), "watch.js"
SWEEP_STYLES, SWEEP_ENTRY = ("base.css", "layout.css", "overview.css", "sweep.css"), "sweep.js"
_IMPORT = re.compile(r'^import (\{[^}]*\}) from "\./([\w-]+)\.js";$', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const) (\w+))", re.MULTILINE)


def read_web(name: str) -> str:
    """Text of a file in web/."""
    return files("dashboards").joinpath("web", name).read_text(encoding="utf-8")


def files_of_page() -> set[str]:
    """Names of the modules and style sheets, which a server hands out one by one."""
    folder = files("dashboards").joinpath("web")
    return {path.name for path in folder.iterdir() if path.name.endswith((".js", ".css"))}


def styles(names: Sequence[str] = STYLES) -> str:
    """The page's style sheets, in order."""
    return "\n".join(read_web(name) for name in names)


def script(entry: str = ENTRY) -> str:
    """The page's modules as one script: each a function scope of its own, after those it imports."""
    modules: dict[str, str] = {}
    _collect(entry.removesuffix(".js"), modules)
    return '"use strict";\n' + "\n".join(modules.values())


def _collect(name: str, modules: dict[str, str]) -> None:
    """Modules must not import in circles: a circle has no order."""
    if name in modules:
        return
    source = read_web(f"{name}.js")
    for _, imported in _IMPORT.findall(source):
        _collect(imported, modules)
    exported = ", ".join(_EXPORT.findall(source))
    body = _EXPORT.sub("", _IMPORT.sub(r"const \1 = module_\2;", source))
    modules[name] = f"const module_{name} = (() => {{\n{body}return {{ {exported} }};\n}})();\n"
