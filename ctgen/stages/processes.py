"""Stages and torchrun: encode, train and sample run in several processes; the rest is refused there, not done N times."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ctgen.errors import StageError


def rank() -> int:
    """This process's number under torchrun; 0 alone."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Processes that torchrun started; 1 alone."""
    return int(os.environ.get("WORLD_SIZE", "1"))


IN_SEVERAL = ("encode", "train", "sample")
"""Stages that share their work among torchrun's processes."""


def require_one_process(stage: str, recipe: str) -> None:
    """StageError if several processes are about to do a stage that one must do."""
    if world_size() > 1:
        raise StageError(
            f"stage {stage} runs in one process, torchrun started {world_size()}",
            hint=f"ctgen run {recipe} --until prepare, then torchrun ... -m ctgen run {recipe} --from encode --until sample, "
            f"then ctgen run {recipe}",
        )


def wait_for_everyone() -> None:
    """A barrier over torchrun's processes; nothing alone."""
    if world_size() > 1:
        joined().wait_for_everyone()


def joined() -> Any:
    """Accelerate's state of this process among torchrun's, which it joins at the first call."""
    import torch
    from accelerate import PartialState

    # told that there is only a CPU, it joins over gloo; not told, each process would be alone
    return PartialState(cpu=not torch.accelerator.is_available())


def wait_for_files(paths: Iterable[Path], check: Callable[[], None]) -> None:
    """Until all of ``paths`` are there, written by other processes; torchrun ends this one if another fails.

    A barrier would do, but gives up after ten minutes: shorter than a large volume may take.
    """
    for path in paths:
        while not path.is_file():
            check()
            time.sleep(0.2)
