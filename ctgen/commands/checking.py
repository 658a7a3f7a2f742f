"""``ctgen data check``: the table that a person reads, and the files that are written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ctgen.atomic import write_json, write_text
from ctgen.commands.listing import table
from ctgen.data.ct_rate.audit import Audit
from ctgen.data.ct_rate.findings import KINDS, severity_of

if TYPE_CHECKING:
    from ctgen.console import Console

SERIOUS = 3
"""Exit code when something serious was found."""
RESULTS = "volumes.jsonl"
EXAMPLES = 3
COLOURS = {"serious": "bold red", "warning": "yellow", "note": "dim"}


def check(root: Path, out: Path | None, *, as_json: bool, sample: int | None, workers: int, console: Console) -> int:
    """Audit, tell, write; returns the exit code."""
    from ctgen.data.ct_rate.audit import audit

    found = audit(root, sample=sample, workers=workers, resume=out / RESULTS if out else None, console=console)
    if out is not None:
        from ctgen.report.data_check import write_check

        write_json(out / "check.json", found.to_json())
        write_check(out / "check.html", found)
        write_text(out / "exclude.txt", found.exclude_text())
    if as_json:
        console.result(json.dumps(found.to_json(), indent=1, ensure_ascii=False))
        return SERIOUS if found.serious else 0
    if console.out.isatty():
        _rich(found, console.out)
    else:
        console.result(plain(found))
    console.result(_verdict(found))
    if out is not None:
        console.say(f"all of it: {out / 'check.html'}; to leave out what is spoilt: data.exclude=[{out / 'exclude.txt'}]")
    return SERIOUS if found.serious else 0


def plain(audit: Audit) -> str:
    """Tables without colour."""
    lines = [table(("", "patients", "scans", "volumes", "fixed", "raw"), list(_sides(audit)))]
    rows = list(_rows(audit))
    if rows:
        lines += ["", table(("", "what", "how many", "for example"), rows)]
    return "\n".join(lines)


def _verdict(audit: Audit) -> str:
    kinds = {finding.kind for finding in audit.findings if severity_of(finding.kind) == "serious"}
    read = f"{len(audit.checked)} volumes, {audit.voxels} read to the end"
    if not kinds:
        return f"{read}: nothing serious"
    return f"{read}: {audit.serious} serious finding{'s' if audit.serious > 1 else ''} of {len(kinds)} kinds"


def _sides(audit: Audit) -> Iterator[tuple[str, ...]]:
    for split in audit.counts["splits"]:
        counts = audit.counts[split]
        yield (split, *(str(counts[name]) for name in ("patients", "scans", "volumes", "fixed", "raw")))


def _rows(audit: Audit) -> Iterator[tuple[str, str, str, str]]:
    for kind, found in audit.of_kind().items():
        examples = ", ".join(one.subject.rpartition("/")[2].removesuffix(".nii.gz") for one in found[:EXAMPLES])
        more = ", ..." if len(found) > EXAMPLES else ""
        yield severity_of(kind), KINDS[kind].title, str(len(found)), examples + more


def _rich(audit: Audit, stream: TextIO) -> None:
    from rich.console import Console as RichConsole
    from rich.table import Table

    screen = RichConsole(file=stream)
    sides = Table(box=None, header_style="bold")
    for name in ("", "patients", "scans", "volumes", "fixed", "raw"):
        sides.add_column(name, justify="right" if name else "left")
    for row in _sides(audit):
        sides.add_row(*row)
    screen.print(sides)
    rows = list(_rows(audit))
    if rows:
        what = Table(box=None, header_style="bold")
        for name in ("", "what", "how many", "for example"):
            what.add_column(name, justify="right" if name == "how many" else "left", overflow="fold")
        for row in rows:
            what.add_row(*row, style=COLOURS[row[0]])
        screen.print(what)
