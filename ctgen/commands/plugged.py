"""Commands that plugins add, without importing the plugins that add none."""

from __future__ import annotations

import importlib.util
import sys
from importlib import metadata
from pathlib import Path

import typer

HOOK = "ctgen_add_commands"


def add_plugin_commands(app: typer.Typer, known: set[str]) -> None:
    """Let every plugin whose entry module mentions the hook add commands; a failure is a warning, never the end.

    A command or group of a name in ``known`` is refused, because a plugin must not change what ``ctgen run`` means.
    """
    for entry in metadata.entry_points(group="ctgen"):
        if not _mentions_hook(entry.module):
            continue
        commands, groups = list(app.registered_commands), list(app.registered_groups)
        try:
            _call_hook(entry, app)
        except (Exception, SystemExit) as error:
            app.registered_commands, app.registered_groups = commands, groups
            _warn(f"plugin {entry.name!r} could not add its commands: {type(error).__name__}: {error}")
            continue
        for added in [*app.registered_commands[len(commands) :], *app.registered_groups[len(groups) :]]:
            name = _name(added)
            if name in known:
                _warn(f"plugin {entry.name!r} adds a command {name!r}, which exists already: left out")
                (app.registered_commands if added in app.registered_commands else app.registered_groups).remove(added)  # type: ignore[arg-type]
            known.add(name)


def _mentions_hook(module: str) -> bool:
    """Reading the source is a few hundred times faster than importing it with its config models."""
    try:
        spec = importlib.util.find_spec(module)
    except Exception:
        return False  # A broken package; `ctgen ls plugins` shows why.
    if spec is None or spec.origin is None:
        return False
    return not spec.origin.endswith(".py") or HOOK.encode() in Path(spec.origin).read_bytes()


def _call_hook(entry: metadata.EntryPoint, app: typer.Typer) -> None:
    import pluggy

    from ctgen import hookspecs

    manager = pluggy.PluginManager("ctgen")
    manager.add_hookspecs(hookspecs)
    manager.register(entry.load(), name=entry.name)
    manager.hook.ctgen_add_commands(app=app)


def _name(added: object) -> str:
    callback = getattr(added, "callback", None)
    return str(getattr(added, "name", None) or getattr(callback, "__name__", "").replace("_", "-"))


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)
