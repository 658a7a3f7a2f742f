"""``ctgen evaluate``: somebody's volumes against real scans."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ctgen.commands.bench import INCOMPLETE, split_words, tell

if TYPE_CHECKING:
    from ctgen.console import Console

PROTOCOL = "ctgen-mini"


def run(
    generated: Path,
    reference: Path,
    out: Path | None,
    *,
    reports: Path | None,
    protocols: Sequence[str],
    weights: Sequence[str],
    console: Console,
) -> int:
    """Score, tell, and return the exit code."""
    from ctgen.bench.folder import evaluate_folder
    from ctgen.host import Host

    where = out or Path("runs") / f"evaluate-{generated.resolve().name}"
    result = evaluate_folder(
        generated,
        reference,
        where,
        reports=reports,
        protocols=split_words(protocols) or [PROTOCOL],
        weights=weights,
        host=Host.discover(),
        console=console,
    )
    tell(result.document, console)
    console.result(f"report: {result.report}")
    nothing = all(one["missing"] for one in result.document["protocols"].values())
    return INCOMPLETE if result.failed or nothing else 0
