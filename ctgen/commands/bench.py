"""``ctgen bench``: models over a suite; or two results files beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ctgen.errors import ConfigError

if TYPE_CHECKING:
    from ctgen.console import Console

INCOMPLETE = 3
"""Exit code when something failed and the rest was scored."""


def split_words(words: Sequence[str]) -> list[str]:
    """A,B and repeated options alike."""
    return [part.strip() for word in words for part in word.split(",") if part.strip()]


def run(
    models: Sequence[str],
    suite: str,
    out: Path | None,
    *,
    cases: int | None,
    processes: int | None,
    protocols: Sequence[str],
    weights: Sequence[str],
    data: Sequence[str] = (),
    console: Console,
) -> int:
    """Run, tell, and return the exit code."""
    from ctgen.bench.run import BenchOptions, bench
    from ctgen.host import Host

    if not models:
        raise ConfigError("no model is named", hint="write --models ctflow,folder:volumes/; ctgen ls presets shows some")
    where = out or Path("runs") / f"bench-{Path(suite).stem}"
    options = BenchOptions(cases, processes, split_words(protocols) or None, weights, data)
    result = bench(split_words(models), suite, where, options, host=Host.discover(), console=console)
    tell(result.document, console)
    console.result(f"report: {result.report}" if result.report else f"results: {where}")
    if result.failed:
        console.warn(f"{len(result.failed)} failed: {', '.join(result.failed)}; the same command tries them again")
        return INCOMPLETE
    return 0


def tell(document: dict[str, object], console: Console) -> None:
    from ctgen.bench.tables import plain, show

    if console.out.isatty():
        show(document, console.out)
    else:
        console.result(plain(document))


def compare_files(paths: Sequence[Path], out: Path | None, *, console: Console) -> int:
    """Two results files as one table; ConfigError if their suites or protocols differ."""
    from ctgen.atomic import write_json, write_text
    from ctgen.bench.joining import join, read_results
    from ctgen.bench.tables import csv_text, markdown

    if len(paths) != 2:
        raise ConfigError(f"--compare takes two results files, got {len(paths)}", hint="ctgen bench --compare A.json B.json")
    first, second = (read_results(path) for path in paths)
    document = join(first, second, str(paths[0]), str(paths[1]))
    tell(document, console)
    if out is not None:
        write_json(out / "results.json", document)
        write_text(out / "results.md", markdown(document))
        write_text(out / "results.csv", csv_text(document))
        console.result(f"results: {out}")
    return 0
