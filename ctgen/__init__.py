"""ctgen: a plugin framework that generates 3D chest CT from radiology reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Host", "Volume", "hookimpl", "load_recipe", "run"]

if TYPE_CHECKING:
    from ctgen.hookspecs import hookimpl
    from ctgen.host import Host
    from ctgen.recipe import load_recipe
    from ctgen.stages import run
    from ctgen.volume import Volume

_LAZY = {
    "Host": "ctgen.host",
    "Volume": "ctgen.volume",
    "hookimpl": "ctgen.hookspecs",
    "load_recipe": "ctgen.recipe",
    "run": "ctgen.stages",
}


def __getattr__(name: str) -> Any:
    # Lazy, so that `import ctgen` costs nothing and `from ctgen import hookimpl` in a plugin imports only pluggy.
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'ctgen' has no attribute {name!r}")
