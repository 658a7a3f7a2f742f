"""``ctgen ls``: components, plugins, presets, suites and protocols as plain tables."""

from __future__ import annotations

from collections.abc import Sequence

from ctgen.errors import UnknownComponentError, did_you_mean
from ctgen.host import Host, Preset
from ctgen.registry import KINDS

EXTRA = ("plugins", "presets", "suites", "protocols")


def listing(host: Host, what: str | None, *, traceback: bool = False) -> str:
    """The text of ``ctgen ls [what]``; ``what`` is a kind, one of EXTRA, or None for all components."""
    if what == "plugins":
        return _plugins(host, traceback=traceback)
    if what == "presets":
        return _shipped("preset", host.presets, prefix="preset:")
    if what == "suites":
        return _shipped("suite", host.suites)
    if what == "protocols":
        return _shipped("protocol", host.protocols)
    if what is not None and what not in KINDS:
        choices = [*KINDS, *EXTRA]
        near = did_you_mean(what, choices)
        raise UnknownComponentError(
            f"nothing to list under {what!r}", hint=f"{near}\nchoose from: {', '.join(choices)}".strip()
        )
    shown = [component for component in host.registry if what in (None, component.kind)]
    names = {kind: host.registry.names(kind) for kind in KINDS}
    rows = [
        (
            component.kind,
            component.name if component.name in names[component.kind] else component.qualified,
            component.plugin,
            component.summary,
        )
        for component in shown
    ]
    lines = [table(("KIND", "NAME", "PLUGIN", ""), rows) if rows else f"no {what or 'component'} is installed"]
    failed = [record for record in host.plugins if record.error]
    if failed:
        lines += ["", *(f"{record.describe()}" for record in failed), "details: ctgen ls plugins --traceback"]
    return "\n".join(lines)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell; no trailing blanks."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def _plugins(host: Host, *, traceback: bool) -> str:
    rows = []
    for record in host.plugins:
        state = f"{record.components} components" if record.error is None else "failed"
        rows.append((record.name, record.distribution, record.version, state))
    lines = [table(("PLUGIN", "DISTRIBUTION", "VERSION", ""), rows)]
    failed = [record for record in host.plugins if record.error]
    for record in failed:
        lines += ["", record.describe()]
        if traceback:
            lines.append(record.traceback.rstrip())
        if record.hint:
            lines.append(f"  {record.hint}")
    if failed and not traceback:
        lines.append("details: ctgen ls plugins --traceback")
    return "\n".join(lines)


def _shipped(what: str, shipped: Sequence[Preset], *, prefix: str = "") -> str:
    if not shipped:
        return f"no plugin ships a {what}"
    rows = [(f"{prefix}{one.name}", one.plugin, one.summary) for one in shipped]
    return table((what.upper(), "PLUGIN", ""), sorted(rows))
