"""What a person sees while ctgen works: progress bars in a terminal, a few plain lines anywhere else, nothing when quiet.

Results go to stdout; progress and warnings go to stderr, so that ``ctgen ... > file`` keeps results only.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, TextIO, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

T = TypeVar("T")

PLAIN_INTERVAL_S = 20.0
"""Seconds between two plain progress lines of a task; a log file should stay readable after a night."""


class Task:
    """One piece of work with a known or unknown total; made by ``Console.task``."""

    def __init__(self, console: Console, title: str, total: int | None, unit: str, done: int = 0) -> None:
        self._console = console
        self.title = title
        self.total = total
        self.unit = unit
        self.done = self._began_at = done
        self.note = ""
        self._started = self._last_line = time.monotonic()
        self._bar = console._open_bar(self)

    def advance(self, amount: int = 1, note: str = "") -> None:
        """``amount`` more is done; ``note`` replaces the short text beside the bar (a loss, a file name)."""
        self.set(self.done + amount, note)

    def set(self, done: int, note: str = "", *, total: int | None = None) -> None:
        """``done`` of ``total`` is done now."""
        self.done, self.note = done, note or self.note
        self.total = self.total if total is None else total
        if self._bar is not None:
            self._console._draw_bar(self._bar, self)
        elif time.monotonic() - self._last_line >= self._console.plain_interval_s:
            self._last_line = time.monotonic()
            self._console._plain(self._describe())

    def close(self, *, finished: bool) -> None:
        """Take the bar away and leave one line, if the work took long enough for anybody to wonder."""
        self._console._close_bar(self._bar)
        seconds = time.monotonic() - self._started
        if finished and seconds >= 2:
            rate = f", {self.rate()}" if self.rate() else ""
            self._console._plain(f"{self.title}: {self.done - self._began_at}{self._unit()} in {_duration(seconds)}{rate}")

    def rate(self) -> str:
        """Throughput, such as "33 cases/min"; "" as long as it says nothing."""
        seconds, made = time.monotonic() - self._started, self.done - self._began_at
        if not self.unit or made < 2 or seconds < 1:
            return ""
        return f"{made / seconds:.3g} {self.unit}/s" if made >= seconds else f"{60 * made / seconds:.3g} {self.unit}/min"

    def _unit(self) -> str:
        return f" {self.unit}" if self.unit else ""

    def _describe(self) -> str:
        seconds = time.monotonic() - self._started
        parts = [f"{self.done}/{self.total}{self._unit()}" if self.total else f"{self.done}{self._unit()}"]
        made = self.done - self._began_at
        if self.total and made:
            parts.append(f"{_duration(seconds * (self.total - self.done) / made)} left")
        parts += [text for text in (self.rate(), self.note) if text]
        return f"{self.title}: " + ", ".join(parts)


class Console:
    """Passed down to whatever may take long. ``quiet`` silences all but warnings and results asked for with ``result``."""

    def __init__(self, *, quiet: bool = False, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.quiet = quiet
        self._out = out
        self._err = err
        self.plain_interval_s = PLAIN_INTERVAL_S
        self._progress: Progress | None = None
        self._open: list[TaskID] = []

    @property
    def out(self) -> TextIO:
        # Looked up late, because test runners and notebooks swap sys.stdout.
        return self._out or sys.stdout

    @property
    def err(self) -> TextIO:
        return self._err or sys.stderr

    @property
    def terminal(self) -> bool:
        """True if progress can be drawn as bars."""
        return self.err.isatty()

    def say(self, text: str = "") -> None:
        """A line about what happens ("encode: skipped, nothing changed"); silent when quiet."""
        if not self.quiet:
            self._write(self.out, text)

    def result(self, text: str = "") -> None:
        """A line that the user asked for (a path, a table); printed even when quiet."""
        self._write(self.out, text)

    def warn(self, text: str) -> None:
        """Something the user should know; printed even when quiet, to stderr."""
        self._write(self.err, f"warning: {text}")

    @contextmanager
    def task(self, title: str, total: int | None = None, *, unit: str = "", done: int = 0) -> Iterator[Task]:
        """``with console.task("encode", len(cases), unit="cases") as task: ... task.advance()``; tasks may be nested.

        ``done`` were finished by an earlier run: they count, but not for the time that is left.
        """
        task = Task(self, title, total, unit, done)
        finished = False
        try:
            yield task
            finished = True
        finally:
            task.close(finished=finished)

    def track(self, items: Iterable[T], title: str, *, total: int | None = None, unit: str = "") -> Iterator[T]:
        """Iterate with progress; the total is taken from ``items`` where it has a length."""
        if total is None and isinstance(items, Sequence):
            total = len(items)
        with self.task(title, total, unit=unit) as task:
            for item in items:
                yield item
                task.advance()

    def __enter__(self) -> Console:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()

    def _write(self, stream: TextIO, text: str) -> None:
        if self._progress is not None and stream.isatty():
            self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=stream, flush=True)

    def _plain(self, text: str) -> None:
        if not self.quiet:
            self._write(self.err, text)

    def _open_bar(self, task: Task) -> TaskID | None:
        if self.quiet or not self.terminal:
            return None
        if self._progress is None:
            # rich costs 0.1 s to import and is only needed for bars.
            from rich.console import Console as RichConsole
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )

            self._progress = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[unit]}", markup=False),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[rate]}", markup=False),
                TextColumn("{task.fields[note]}", markup=False),
                console=RichConsole(file=self.err),
                transient=True,
            )
            self._progress.start()
        bar = self._progress.add_task(task.title, total=task.total, completed=task.done, unit=task.unit, rate="", note="")
        self._open.append(bar)
        return bar

    def _draw_bar(self, bar: TaskID, task: Task) -> None:
        if self._progress is not None:
            self._progress.update(bar, completed=task.done, total=task.total, rate=task.rate(), note=task.note)

    def _close_bar(self, bar: TaskID | None) -> None:
        if bar is None or self._progress is None:
            return
        self._progress.remove_task(bar)
        self._open.remove(bar)
        if not self._open:
            self._stop()

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress, self._open = None, []


def _duration(seconds: float) -> str:
    """A short time for people: 8 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
