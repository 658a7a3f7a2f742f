"""Who may import whom, read from the source: the core knows no plugin, nothing runs in a circle, light modules stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import ctgen

CORE = Path(ctgen.__file__).parent
MODULES = {
    ".".join(("ctgen", *path.relative_to(CORE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in CORE.rglob("*.py")
    if "scaffold_template" not in path.parts
}
HEAVY = {"torch", "diffusers", "transformers", "accelerate", "SimpleITK", "scipy", "skimage", "matplotlib", "torchmetrics"}
LIGHT = (
    "ctgen",
    "ctgen.backbone_checks",
    "ctgen.builtin.plugin",
    "ctgen.cli",
    "ctgen.config",
    "ctgen.errors",
    "ctgen.host",
    "ctgen.interfaces",
    "ctgen.recipe",
    "ctgen.registry",
    "ctgen.scaffold",
)


def imported(path: Path, *, at_module_level: bool) -> set[str]:
    """Names of modules that a file imports; those under TYPE_CHECKING are left out."""
    names: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if at_module_level and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        waiting.extend(ast.iter_child_nodes(node))
    return names


def test_the_core_imports_no_plugin() -> None:
    for name, path in MODULES.items():
        others = {one for one in imported(path, at_module_level=False) if one.partition(".")[0].startswith("ctgen_")}
        assert not others, f"{name} imports {others}"


def test_no_circle_of_imports() -> None:
    graph = {name: imported(path, at_module_level=True) & MODULES.keys() - {name} for name, path in MODULES.items()}
    # `from package.module import x` also names the package; its __init__ may import the module without harm.
    graph = {name: {one for one in found if not name.startswith(f"{one}.")} for name, found in graph.items()}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(reversed(error.args[1]))}")


def test_light_modules_import_nothing_heavy() -> None:
    code = f"""
import importlib, sys
for name in {LIGHT!r}:
    importlib.import_module(name)
    found = sorted({HEAVY!r} & set(sys.modules))
    assert not found, f"{{name}} imports {{found}}"
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_configs_of_every_plugin_are_light() -> None:
    code = f"""
import sys
from ctgen import Host
host = Host.discover()
assert not [record.describe() for record in host.plugins if record.error]
found = sorted({HEAVY!r} & set(sys.modules))
assert not found, found
"""
    subprocess.run([sys.executable, "-c", code], check=True)
