"""Several computations that ask the same questions, one after the other, with the questions of all answered together.

Each computation is plain code that calls ``ask(question)`` where it needs an answer; it runs in a thread of its own. Only one
thread runs at a time, from one question to the next and always in the same order, so nothing depends on timing and code that
was not written for threads is safe.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from queue import SimpleQueue
from threading import Thread
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")
R = TypeVar("R")


class _Abandoned(BaseException):
    """Raised in a computation whose result nobody waits for any more; not an Exception, so that nothing takes it for one."""


class _Talk(Generic[Q, A, R]):
    """One computation: after construction and after each ``reply`` it is either at a ``question`` or ``done``."""

    def __init__(self, index: int, work: Callable[[Callable[[Q], A]], R]) -> None:
        self.index = index
        self.done = False
        self.question: Q
        self.result: R
        self._work = work
        self._error: BaseException | None = None
        self._answers: SimpleQueue[tuple[A] | None] = SimpleQueue()
        self._turns: SimpleQueue[None] = SimpleQueue()
        self._thread = Thread(target=self._run, name=f"case-{index}", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._wait()

    def reply(self, answer: A) -> None:
        self._answers.put((answer,))
        self._wait()

    def abandon(self) -> None:
        """End the computation at its question; returns when its thread has ended."""
        self._answers.put(None)
        if self._thread.ident is not None:
            self._thread.join()

    def _wait(self) -> None:
        # a signal handler may raise here: the lock below lets it
        self._turns.get()
        if self._error is not None:
            raise self._error

    def _ask(self, question: Q) -> A:
        self.question = question
        self._turns.put(None)
        answer = self._answers.get()
        if answer is None:
            raise _Abandoned
        return answer[0]

    def _run(self) -> None:
        try:
            self.result = self._work(self._ask)
        except _Abandoned:
            return
        except BaseException as error:  # handed to whoever waits
            self._error = error
        self.done = True
        self._turns.put(None)


def together(
    works: Iterable[Callable[[Callable[[Q], A]], R]], answer: Callable[[Sequence[Q]], Sequence[A]], most: int
) -> Generator[tuple[int, R], None, None]:
    """(index, result) of each of ``works`` as they end, with up to ``most`` under way; the next begins when one ends.

    ``answer`` gets one question of each computation under way, by rising index, and is called in the caller's thread. An error
    in a computation or in ``answer`` reaches the caller as it is, and ends the others. With ``most`` = 1 no thread is made.
    """
    if most == 1:
        for index, work in enumerate(works):
            yield index, work(lambda question: answer([question])[0])
        return
    waiting = enumerate(works)
    talks: list[_Talk[Q, A, R]] = []
    try:
        while True:
            while len(talks) < most and (following := next(waiting, None)) is not None:
                talks.append(_Talk(*following))
                talks[-1].start()
                if talks[-1].done:
                    ended = talks.pop()
                    yield ended.index, ended.result
            if not talks:
                return
            answers = answer([talk.question for talk in talks])
            for talk, found in zip(tuple(talks), answers, strict=True):
                talk.reply(found)
                if talk.done:
                    talks.remove(talk)
                    yield talk.index, talk.result
    finally:
        for talk in talks:
            talk.abandon()
