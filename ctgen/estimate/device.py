"""How much memory there is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@dataclass(frozen=True)
class Room:
    """``bytes`` of memory on ``name``; ``source``: how that is known."""

    name: str
    bytes: int
    source: str


def room(device: torch.device, given: int | None) -> Room:
    """The memory of ``device``; ``given`` wins over what is found."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    if given is not None:
        return Room(name, given, "as given")
    if device.type == "cuda":
        return Room(name, torch.cuda.get_device_properties(device).total_memory, "of the GPU")
    total, source = int(psutil.virtual_memory().total), "of this machine"
    for limit in CGROUP_LIMITS:
        text = limit.read_text().strip() if limit.is_file() else ""
        if text.isdigit() and int(text) < total:
            total, source = int(text), "allowed to this process (cgroup)"
    return Room(name, total, source)
