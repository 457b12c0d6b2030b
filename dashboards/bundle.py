"""The page's own code: ES modules and style sheets in web/, joined into one script without a build step."""

import re
from importlib.resources import files

STYLES = ("base.css", "layout.css", "table.css", "feature.css", "overview.css")
ENTRY = "app.js"
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([\w-]+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const|let) )", re.MULTILINE)


def read_web(name: str) -> str:
    """Text of a file in web/."""
    return files("dashboards").joinpath("web", name).read_text(encoding="utf-8")


def styles() -> str:
    """All style sheets, in order."""
    return "\n".join(read_web(name) for name in STYLES)


def script() -> str:
    """All modules in one strict scope, each after those it imports. Names are unique over the modules."""
    modules: dict[str, str] = {}
    _collect(ENTRY, modules)
    return '(() => {\n"use strict";\n' + "\n".join(modules.values()) + "})();\n"


def _collect(name: str, modules: dict[str, str]) -> None:
    if name in modules:
        return
    source = read_web(name)
    for imported in _IMPORT.findall(source):
        _collect(imported, modules)
    # Entered after its imports; import cycles have no order and would recurse for ever, so web/ has none.
    modules[name] = _EXPORT.sub("", _IMPORT.sub("", source))
