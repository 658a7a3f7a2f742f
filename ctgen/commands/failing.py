"""What a person reads when a command fails, and the exit code."""

from __future__ import annotations

import os
import sys
import traceback
from importlib import metadata
from types import TracebackType

from ctgen.errors import CtgenError, Interrupted, RecipeError

DEFECT, MENDABLE, INTERRUPTED = 1, 2, 130
TRACEBACK = "CTGEN_TRACEBACK"


def code_for(error: BaseException) -> int:
    """Print what ``error`` means for the user to stderr; returns the exit code."""
    if os.environ.get(TRACEBACK) == "1":
        traceback.print_exception(error)
    if isinstance(error, KeyboardInterrupt):
        _print("interrupted; the same command goes on where it can")
        return INTERRUPTED
    if isinstance(error, Interrupted):
        _print(str(error))
        return INTERRUPTED
    if isinstance(error, RecipeError):
        count = len(error.problems)
        _print(f"{error}\n{count} problem{'s' if count > 1 else ''}")
        return MENDABLE
    if isinstance(error, CtgenError):
        _print(f"error: {error}")
        return MENDABLE
    _print(
        f"error: {type(error).__name__}: {error}\n  this is a defect in {_culprit(error.__traceback__)}; "
        f"{TRACEBACK}=1 in the environment shows where"
    )
    return DEFECT


def _culprit(trace: TracebackType | None) -> str:
    """The plugin whose code is innermost in the traceback, or ctgen."""
    plugins = {entry.module.partition(".")[0]: entry.name for entry in metadata.entry_points(group="ctgen")}
    found = "ctgen"
    while trace is not None:
        package = str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
        if package == "ctgen":
            found = "ctgen"
        elif package in plugins:
            found = f"plugin {plugins[package]!r}"
        trace = trace.tb_next
    return found


def _print(text: str) -> None:
    sys.stdout.flush()
    print(text, file=sys.stderr)
