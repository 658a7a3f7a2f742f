"""Entry module: declares what the plugin offers and imports nothing heavy."""

from __future__ import annotations

from ctgen import hookimpl
from ctgen.host import Registrar

PLUGIN_API = 1


@hookimpl
def ctgen_register(registrar: Registrar) -> None:
    pass
