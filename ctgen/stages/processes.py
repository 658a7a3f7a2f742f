"""Stages and torchrun: only training runs in several processes; everything else is refused there, not done N times."""

from __future__ import annotations

import os

from ctgen.errors import StageError


def rank() -> int:
    """This process's number under torchrun; 0 alone."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Processes that torchrun started; 1 alone."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def require_one_process(stage: str, recipe: str) -> None:
    """StageError if several processes are about to do a stage that one must do."""
    if world_size() > 1:
        raise StageError(
            f"stage {stage} runs in one process, torchrun started {world_size()}",
            hint=f"ctgen run {recipe} --until encode, then torchrun ... -m ctgen run {recipe} --from train --until train",
        )


def wait_for_everyone() -> None:
    """A barrier over torchrun's processes; nothing alone."""
    if world_size() > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()
