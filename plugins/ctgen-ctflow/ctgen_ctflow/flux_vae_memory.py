"""How many slices fit: free memory, and what a pass of ``flux_vae_pass`` holds at its widest point."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from ctgen_ctflow.flux_vae_config import FluxVaeConfig
from ctgen_ctflow.flux_vae_pass import SHORT

SHARE = 0.5
"""Part of the free memory that a pass may take; others want some, and estimates err."""
MOST = 16
"""More slices at a time are no faster."""
UNKNOWN = 2 << 30
"""Bytes taken to be free where nothing tells."""


def slices_per_pass(bytes_per_slice: int, device: torch.device) -> int:
    """From 1 (also if not even one fits: it is tried) to MOST."""
    return max(1, min(MOST, int(SHARE * free_bytes(device)) // max(1, bytes_per_slice)))


def free_bytes(device: torch.device) -> int:
    """Memory that a pass on ``device`` can still get."""
    if device.type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + held
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    found = [size for size in (_available(), _group_limit()) if size is not None]
    return min(found) if found else UNKNOWN


def _available(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """The host's: Linux says what is available; elsewhere half of what is installed."""
    try:
        for line in meminfo.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return None


def _group_limit(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What a container's limit leaves; None without a limit. Files that were only read count as free."""
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            left = int((root / limit).read_text()) - int((root / used).read_text())
            stat = (root / limit).with_name("memory.stat").read_text()
            cached = next((int(line.split()[1]) for line in stat.splitlines() if line.startswith("inactive_file ")), 0)
        except (OSError, ValueError):
            continue
        return max(0, left + cached)
    return None


def encode_bytes(config: FluxVaeConfig, height: int, width: int) -> int:
    """Peak of one slice's activations in ``SlicePass.encode`` without gradients, weights not counted."""
    return _peak(config, height, width, up=False)


def decode_bytes(config: FluxVaeConfig, height: int, width: int) -> int:
    """The same for ``SlicePass.decode`` of a slice of ``height`` x ``width`` pixels."""
    return _peak(config, height, width, up=True)


def _peak(config: FluxVaeConfig, height: int, width: int, *, up: bool) -> int:
    sizes = _pixels(config, height, width, up=up), _levels(config, height, width, up=up)
    return max(*sizes, _attention(config, height, width))


def _size(config: FluxVaeConfig) -> int:
    return 2 if config.precision == "bfloat16" else 4


def _pixels(config: FluxVaeConfig, height: int, width: int, *, up: bool) -> int:
    """Next to the image: the float32 side of a convolution, and what it is made from or turned into; up: both of them."""
    values = 4 + (4 if up else _size(config))
    return height * width * (values * config.channels[0] + 4 * config.image_channels)


def _levels(config: FluxVaeConfig, height: int, width: int, *, up: bool) -> int:
    """Residual blocks, with their input, its normalised copy and the result; and the steps between levels."""
    channels, size = config.channels, _size(config)
    peak = 0
    for level, here in enumerate(channels):
        cells = (height >> level) * (width >> level)
        before = channels[min(level + 1, len(channels) - 1)] if up else channels[max(level - 1, 0)]
        held = before + max(before + here, 2 * here)
        if up and level + 1 < len(channels):
            # what is doubled, the doubled (four parts of it in bfloat16), the result
            held = max(held, before + before // 4 + (before if size == 4 else before // 4))
        if not up and level:
            held = max(held, 4 * before + 4 * before + here)
        peak = max(peak, held * cells * size)
    return peak


def _attention(config: FluxVaeConfig, height: int, width: int) -> int:
    stride = config.latent_spec().stride[1]
    cells, wide = (height // stride) * (width // stride), config.channels[-1]
    plain = config.precision == "bfloat16" and config.mid_attention and cells <= SHORT
    scores = 10 * cells * cells if plain else 0
    return scores + 6 * wide * cells * _size(config)
