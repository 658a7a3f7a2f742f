"""The hooks that a plugin may implement. Every call passes its arguments by name; take only those you need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from pathlib import Path

    import typer

    from ctgen.host import Registrar
    from ctgen.weights_header import WeightsHeader
    from ctgen.weights_inspect import WeightsDescription

hookspec = pluggy.HookspecMarker("ctgen")
hookimpl = pluggy.HookimplMarker("ctgen")


@hookspec
def ctgen_register(registrar: Registrar) -> None:
    """Called once per plugin at discovery. Declare components and presets; import nothing heavy here."""


@hookspec
def ctgen_stage_started(stage: str, folder: Path) -> None:
    """Called before a stage that is not skipped does any work; ``folder`` is the stage's own folder."""


@hookspec
def ctgen_stage_finished(stage: str, folder: Path, summary: dict[str, Any]) -> None:
    """Called after a stage wrote its last file; ``summary`` is what the stage reports (JSON-ready)."""


@hookspec
def ctgen_train_step(step: int, values: dict[str, float]) -> None:
    """Called on the main process each time the training loop logs; ``values`` holds the logged scalars."""


@hookspec
def ctgen_add_commands(app: typer.Typer) -> None:
    """Called when the command line is built. Add sub-commands; import nothing heavy here."""


@hookspec
def ctgen_inspect_weights(header: WeightsHeader) -> WeightsDescription | None:  # type: ignore[empty-body]
    """Called by ``ctgen weights inspect``. Say what the file is if you know, else None; read nothing but the header."""
