"""One `ctgen run` at a time in a run folder: two would write the same checkpoints and logs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ctgen.errors import StageError


@contextmanager
def only_one(run_dir: Path) -> Iterator[None]:
    """Hold ``run_dir``/.lock; StageError if another process does. The system frees it when a process ends, however it ends."""
    try:
        import fcntl
    except ImportError:  # Windows has none
        yield
        return
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / ".lock").open("a", encoding="utf-8") as handle:
        try:
            # of the process, not of the open file: worker processes do not inherit it and cannot outlive it
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            raise StageError(
                f"another ctgen run is at work in {run_dir}", hint="wait for it, or choose another folder: --run-dir DIR"
            ) from error
        except OSError:
            # some network file systems keep no locks; nothing is known about other processes then
            pass
        yield
