"""One class per cause. Errors carry data; only cli.py turns them into text for a person.

Everything that a user can cause derives from CtgenError; anything else that reaches the shell is a defect of ctgen or a plugin.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class CtgenError(Exception):
    """``message`` says what is wrong; ``hint`` is the next command or the nearest valid choice."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  " + self.hint.replace("\n", "\n  ") if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        # Sub-classes take other arguments than Exception.args holds; workers must still be able to send them.
        return _restore, (type(self), self.args, self.__dict__)


def _restore(cls: type[CtgenError], args: tuple[Any, ...], state: dict[str, Any]) -> CtgenError:
    error = cls.__new__(cls, *args)
    error.__dict__.update(state)
    return error


@dataclass(frozen=True)
class Mark:
    """A place in a file; line and column count from 1. ``source`` may be a label such as "command line"."""

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@dataclass(frozen=True)
class Problem:
    """One mistake in a recipe: where, which key, what, and what to do about it."""

    mark: Mark
    key: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.mark}: {self.key}: " if self.key else f"{self.mark}: "
        text = f"{where}{self.message}"
        return f"{text}\n  " + self.hint.replace("\n", "\n  ") if self.hint else text


class RecipeError(CtgenError):
    """All mistakes of a recipe at once, in file order."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class UnknownComponentError(CtgenError):
    """No component of that kind and name; ``available`` and the nearest match come from the registry."""


class AmbiguousComponentError(CtgenError):
    """Two plugins registered the same (kind, name); both are reachable as plugin:name."""


class PluginError(CtgenError):
    """A plugin is broken: it failed to import, to register, or a target of its could not be loaded."""


class ConfigError(CtgenError):
    """A component was given fields or values that its config does not take."""


class MissingFileError(CtgenError):
    """Weights, data or a run that should exist do not; says where it was looked for and how to get it."""


class VolumeError(CtgenError):
    """A file is not a readable CT volume."""

    def __init__(self, path: Path | str, message: str, *, hint: str = "") -> None:
        super().__init__(f"{path}: {message}", hint=hint)
        self.path = Path(path)


class DataError(CtgenError):
    """A data set as a whole cannot be used: empty, inconsistent, wrong columns."""


class CheckpointError(CtgenError):
    """Weights do not fit the component: the message lists the differences."""


class StageError(CtgenError):
    """A stage cannot run: an earlier one is missing, or its output was changed or removed."""


class TrainingError(CtgenError):
    """Training cannot go on: the loss is not finite, or there is nothing to train."""


class Interrupted(CtgenError):
    """SIGINT or SIGTERM: what was finished is on disk; the same command goes on."""


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """'did you mean 'x'?' for the nearest choice, or the empty string."""
    near = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.55)
    return f"did you mean {near[0]!r}?" if near else ""
