"""The floors of docs/architecture.md: imports go down, never in a circle."""

import ast
import importlib
import re
import sys
from pathlib import Path

import pytest

import jaxlr

ROOT = Path(jaxlr.__file__).parents[1]
FILES = sorted(
    file for package in ("jaxlr", "jaxlr_command") for file in (ROOT / package).rglob("*.py")
)


def name_of(file):
    """Return the module that a file is, without the `__init__` of a package."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


NAMES = {name_of(file): file for file in FILES}


def floor_of(module):
    """Return the package of a module; of what stands directly under jaxlr, "jaxlr"."""
    first, *rest = module.split(".")
    return rest[0] if rest and ROOT.joinpath(first, rest[0]).is_dir() else first


def imports(file):
    """Return the modules of jaxlr that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    ours = set()
    for name in found:
        if name.split(".")[0] in ("jaxlr", "jaxlr_command"):
            while name not in NAMES:
                name = name.rpartition(".")[0]
            ours.add(name)
    return ours


IMPORTS = {name: imports(file) - {name} for name, file in NAMES.items()}


def floors():
    """Return the height of each floor, as docs/architecture.md has them."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    lines = re.findall(r"^\d+\. ((?:`\w+`, )*`\w+`):", page, re.M)
    return {name: -i for i, line in enumerate(lines) for name in re.findall(r"`(\w+)`", line)}


def test_every_package_has_a_floor():
    assert {floor_of(name) for name in NAMES} == floors().keys()


def test_imports_go_down():
    height = floors()
    up = [
        f"{name} imports {other}"
        for name, imported in IMPORTS.items()
        for other in imported - {"jaxlr.version"}
        if height[floor_of(other)] > height[floor_of(name)] and name != "jaxlr.__main__"
    ]
    assert not up
    # What it judges cannot mislead it.
    assert all(
        floor_of(other) == "audit"
        for name in NAMES
        if floor_of(name) == "audit"
        for other in IMPORTS[name]
    )


def test_there_is_no_circle():
    below = {name: set(found) for name, found in IMPORTS.items()}
    while free := {name for name, found in below.items() if not found & below.keys()}:
        below = {name: found for name, found in below.items() if name not in free}
    assert not below


def test_no_module_has_the_name_of_a_function_beside_it_nor_of_the_standard_library():
    for name, file in NAMES.items():
        package, _, stem = name.rpartition(".")
        if file.name in ("__init__.py", "__main__.py"):
            continue
        assert stem not in sys.stdlib_module_names, f"{name} is a name of the standard library"
        if package in ("jaxlr", *(f"jaxlr.{floor}" for floor in floors())):
            found = getattr(importlib.import_module(package), stem, None)
            assert found is None or isinstance(found, type(sys)), f"{name} is shadowed"


def touches(file):
    """Return the lines in which an `….X` is multiplied, sliced, or given to NumPy."""
    tree = ast.parse(file.read_text())
    above = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}

    def is_touched(node):
        user = above[node]
        if isinstance(user, ast.Attribute):
            return user.attr not in {"shape", "dtype", "astype"}
        if isinstance(user, ast.Call) and isinstance(user.func, ast.Attribute):
            return ast.unparse(user.func).startswith(("jnp.", "np.", "jax.numpy."))
        return isinstance(user, ast.BinOp | ast.UnaryOp | ast.Compare | ast.Subscript)

    places = (n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr == "X")
    return [f"{name_of(file)}, line {n.lineno}" for n in places if is_touched(n)]


def test_one_file_multiplies_slices_and_sums_the_features():
    floors = {"model", "solver", "inference", "lanes", "studies"}
    core = [file for name, file in NAMES.items() if floor_of(name) in floors]
    allowed = {"features", "passes", "padding"}
    assert not [place for file in core if file.stem not in allowed for place in touches(file)]


def test_few_modules_stand_outside_of_the_floors():
    assert len(list((ROOT / "jaxlr").glob("*.py"))) <= 14


@pytest.mark.parametrize("path", ["data", "metrics", "audit", "sklearn", "plots"])
def test_released_paths_are_there(path):
    assert importlib.import_module(f"jaxlr.{path}").__all__
