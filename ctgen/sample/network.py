"""The network as the cases under way ask it: one call for all that can share one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ctgen.interfaces import Condition
from ctgen.train.latent_flow import pad_text


@dataclass(frozen=True)
class Question:
    """One case's z (1, c, d, h, w) at ``time``: predicted with the report and, if ``guided``, without it as well, or with
    what ``negative`` says instead."""

    z: Tensor
    time: float
    condition: Condition
    guided: bool = False
    negative: Condition | None = None

    def rows(self) -> int:
        """Evaluations of the network that the answer takes."""
        return 2 if self.guided else 1

    def conditions(self) -> list[tuple[Condition, bool]]:
        """(condition, is its text dropped) of each row."""
        if not self.guided:
            return [(self.condition, False)]
        away = (self.condition, True) if self.negative is None else (self.negative, False)
        return [(self.condition, False), away]


@dataclass(frozen=True)
class Answer:
    """``predictions``, float32 of z's shape: with the report, then of the row to be guided away from; and this case's share of
    the time in s."""

    predictions: tuple[Tensor, ...]
    seconds: float


class Network:
    """Answers questions of equal shape in one call of the backbone, each with its own time and condition."""

    def __init__(self, backbone: Any, where: torch.device) -> None:
        self.backbone, self.where = backbone, where
        self._joined: tuple[list[tuple[Condition, bool]], Condition] | None = None

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        groups: dict[object, list[int]] = {}
        for index, question in enumerate(questions):
            context = question.condition.context
            key = (question.z.shape, question.z.dtype, None if context is None else context.shape)
            groups.setdefault(key, []).append(index)
        found: dict[int, Answer] = {}
        for group in groups.values():
            found.update(zip(group, self._together([questions[index] for index in group]), strict=True))
        return [found[index] for index in range(len(questions))]

    def _together(self, questions: Sequence[Question]) -> list[Answer]:
        started = time.perf_counter()
        rows = [(question, condition) for question in questions for condition in question.conditions()]
        z_B = torch.cat([question.z for question, _ in rows]) if len(rows) > 1 else rows[0][0].z
        time_B = torch.tensor([question.time for question, _ in rows], dtype=torch.float32, device=self.where)
        condition = self._condition([condition for _, condition in rows])
        predictions = iter(self.backbone(z_B, time_B, condition).float().split(1))
        answers = [tuple(next(predictions) for _ in range(question.rows())) for question in questions]
        seconds = (time.perf_counter() - started) / len(rows)
        return [Answer(answer, len(answer) * seconds) for answer in answers]

    def _condition(self, rows: list[tuple[Condition, bool]]) -> Condition:
        """The rows' conditions as one; kept, because a solver asks with the same ones at every step of a block."""
        if self._joined is None or not _same(self._joined[0], rows):
            self._joined = rows, join(rows)
        return self._joined[1]


def _same(one: list[tuple[Condition, bool]], other: list[tuple[Condition, bool]]) -> bool:
    pairs = zip(one, other, strict=False)
    return len(one) == len(other) and all(a is b and drop_a == drop_b for (a, drop_a), (b, drop_b) in pairs)


def join(rows: Sequence[tuple[Condition, bool]]) -> Condition:
    """(condition of one case, is its text dropped) -> their batch; texts are padded with masked zeros to the longest.

    ``drop`` stays None where no text is dropped. The conditions have equal contexts' shapes and the same fields set.
    """
    conditions = [condition for condition, _ in rows]
    text = conditions[0].text if len(rows) == 1 else pad_text([condition.text for condition in conditions])
    dropped = [drop for _, drop in rows]

    def stacked(name: str) -> Tensor | None:
        values = [getattr(condition, name) for condition in conditions]
        return None if values[0] is None else torch.cat(values)

    return Condition(
        text=text,
        context=stacked("context"),
        position=stacked("position"),
        spacing=stacked("spacing"),
        context_level=stacked("context_level"),
        drop=torch.tensor(dropped, device=text.tokens.device) if any(dropped) else None,
    )
