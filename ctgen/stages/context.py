"""What every stage is handed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from ctgen.errors import Interrupted

if TYPE_CHECKING:
    from ctgen.console import Console
    from ctgen.recipe import Recipe

RESUME_HINT = "nothing finished is lost: the same command goes on from here"


@dataclass
class Stopper:
    """SIGINT and SIGTERM set a flag that stages look at between pieces of work; a second signal stops at once."""

    requested: bool = False

    def check(self) -> None:
        """Raise Interrupted if somebody asked to stop."""
        if self.requested:
            raise Interrupted("interrupted", hint=RESUME_HINT)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle signals inside the block; only possible, and only done, in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(number: int, frame: FrameType | None) -> None:
            if self.requested:
                raise Interrupted("interrupted twice", hint=RESUME_HINT)
            self.requested = True

        old = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)


@dataclass
class Context:
    """One run: the recipe, what was built from it, and the folders of the stages done so far."""

    recipe: Recipe
    run_dir: Path
    console: Console
    components: dict[str, Any]
    folders: dict[str, Path] = field(default_factory=dict)
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    stopper: Stopper = field(default_factory=Stopper)
