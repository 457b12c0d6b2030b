"""The rules of the code's structure, held by the code's own imports."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("interp", "saes", "probes", "dashboards")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

# Who may import whom, most specific first: a module's layer is that of its longest matching prefix.
LAYERS = {
    "interp.__main__": 5,
    "interp.cli": 4,
    "interp.studies": 4,
    "dashboards": 3,
    "saes": 2,
    "probes": 2,
    "interp": 1,
}


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _layer(module: str) -> tuple[str, int]:
    prefix = max((p for p in LAYERS if module == p or module.startswith(f"{p}.")), key=len)
    return prefix, LAYERS[prefix]


def _imports(path: Path, *, top_level: bool = False) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=_module)
def test_imports_point_down(path):
    own, layer = _layer(_module(path))
    for imported in _imports(path):
        if imported.split(".")[0] not in PACKAGES:
            continue
        prefix, other = _layer(imported)
        assert other <= layer, f"{_module(path)} imports {imported}"
        assert {own, prefix} != {"saes", "probes"}, f"{_module(path)} imports {imported}"
        if prefix == "interp.cli":
            assert own in ("interp.cli", "interp.__main__"), f"{_module(path)} imports the command line"


# Package -> the only places that may import it.
ONLY_IN = {
    "plotly": ("dashboards",),
    "transformer_lens": ("interp.models", "interp.bridge"),
    "click": ("interp.cli",),
    "fastapi": ("dashboards.server",),
}


@pytest.mark.parametrize("path", FILES, ids=_module)
def test_packages_are_imported_where_they_belong(path):
    module = _module(path)
    for imported in _imports(path):
        homes = ONLY_IN.get(imported.split(".")[0])
        assert homes is None or module.startswith(homes), f"{module} imports {imported}"


# Absent on a machine that only trains.
OPTIONAL = {"transformer_lens", "datasets", "fastapi", "triton", "IPython"}
# Kernels cannot be written without triton: whoever runs them imports these modules where that is done.
KERNELS = tuple(f"saes.ops.triton_{name}" for name in ("adam", "candidates", "select", "sparse"))


@pytest.mark.parametrize("path", FILES, ids=_module)
def test_optional_packages_are_imported_where_they_are_used(path):
    found = {name.split(".")[0] for name in _imports(path, top_level=True)} & OPTIONAL
    assert found == ({"triton"} if _module(path) in KERNELS else set())
    assert _module(path) in KERNELS or not {name for name in _imports(path, top_level=True) if name.startswith(KERNELS)}


@pytest.mark.parametrize("path", FILES, ids=_module)
def test_nothing_is_pickled_and_annotations_are_live(path):
    names = set(_imports(path))
    assert not names & {"pickle", "dill", "joblib", "__future__.annotations"}


@pytest.mark.parametrize("path", FILES, ids=_module)
def test_public_names_have_docstrings(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    public = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and not n.name.startswith("_")]
    assert [n.name for n in public if not ast.get_docstring(n)] == []
    assert path.name in ("__init__.py", "__main__.py") or ast.get_docstring(tree), f"{path} says nothing of itself"
