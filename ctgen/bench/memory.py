"""Peak memory of a piece of work, where the system tells it."""

from __future__ import annotations

from pathlib import Path

import torch

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak() -> None:
    """Forget the peak so far: of the accelerator, or of this process (Linux)."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return
    try:
        RESET.write_text("5")
    except OSError:
        return


def peak_bytes() -> int | None:
    """Since reset_peak: memory that tensors held on the accelerator, or this process's resident memory; None if unknown."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    found = [line.split() for line in lines if line.startswith("VmHWM:")]
    return int(found[0][1]) * 1024 if found else None
