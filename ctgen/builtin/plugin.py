"""Entry module of the built-in components: declarations only, nothing heavy is imported."""

from __future__ import annotations

from ctgen.hookspecs import hookimpl
from ctgen.host import Registrar

PLUGIN_API = 1


@hookimpl
def ctgen_register(registrar: Registrar) -> None:
    pass
