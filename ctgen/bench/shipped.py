"""The suites and protocols that ctgen ships; imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ctgen.host import Registrar

SUITES = {
    "mini": "12 simulated chests that nothing was trained on: minutes on a laptop",
    "mini-64": "64 simulated chests that nothing was trained on",
}
PROTOCOLS = {
    "ctgen-mini": "ctgen's own, with what it ships; never comparable with a paper",
}


def register_shipped(registrar: Registrar) -> None:
    for name, summary in SUITES.items():
        registrar.suite(name, package="ctgen.bench", resource=f"suites/{name}.yaml", summary=summary)
    for name, summary in PROTOCOLS.items():
        registrar.protocol(name, package="ctgen.bench", resource=f"protocols/{name}.yaml", summary=summary)
