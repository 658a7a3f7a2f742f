"""What a file says about its volume before any voxel is read, and whether that can be believed and would fit in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ctgen.errors import VolumeError

VOLUME_SUFFIXES: tuple[str, ...] = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd")
MAX_DEFLATE_RATIO = 1032
"""Deflate cannot pack more than this many bytes into one."""


@dataclass(frozen=True)
class Header:
    """Geometry and voxel type of a file. ``affine`` maps (d, h, w, 1) to LPS mm as in Volume; ``notes`` say what was odd."""

    path: Path
    format: str
    shape: tuple[int, int, int]
    dtype: np.dtype
    affine: NDArray[np.float64]
    notes: tuple[str, ...] = ()
    slope: float = 1.0
    intercept: float = 0.0
    data_offset: int = field(default=0, repr=False)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """(D, H, W) in mm."""
        d, h, w = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(d), float(h), float(w)

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        """(D, H, W) in mm, voxel edge to voxel edge."""
        d, h, w = (size * spacing for size, spacing in zip(self.shape, self.spacing_mm, strict=True))
        return d, h, w

    @property
    def bytes_in_file(self) -> int:
        """Of the voxels, uncompressed."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize

    @property
    def bytes_needed(self) -> int:
        """Memory at the peak of reading: the voxels as stored and as float32 HU."""
        return self.bytes_in_file + 4 * int(np.prod(self.shape, dtype=object))


def volume_suffix(path: Path) -> str | None:
    """The volume suffix that ``path`` ends with, or None."""
    name = path.name.lower()
    return next((suffix for suffix in VOLUME_SUFFIXES if name.endswith(suffix) and len(name) > len(suffix)), None)


def is_volume_file(path: Path) -> bool:
    """An existing, not hidden file whose suffix is one of VOLUME_SUFFIXES; its content is not looked at."""
    return volume_suffix(path) is not None and not path.name.startswith(".") and path.is_file()


def volume_stem(path: Path) -> str:
    """The file name without its volume suffix: "a.b.nii.gz" -> "a.b"."""
    suffix = volume_suffix(path)
    return path.name[: -len(suffix)] if suffix else path.stem


def checked_suffix(path: Path) -> str:
    """The volume suffix of a file that exists and is not empty; VolumeError otherwise."""
    if path.is_dir():
        raise VolumeError(
            path, "is a folder, not a volume file", hint="give one file, or use the dataset 'folder' with root: this folder"
        )
    suffix = volume_suffix(path)
    if not path.exists():
        raise VolumeError(path, "no such file")
    if suffix is None:
        hint = f"ctgen reads {', '.join(VOLUME_SUFFIXES)}"
        if path.suffix.lower() in (".dcm", ".ima"):
            hint += ", and a folder that holds one DICOM series"
        raise VolumeError(path, f"unknown volume suffix {path.suffix!r}", hint=hint)
    if path.stat().st_size == 0:
        raise VolumeError(path, "the file is empty (0 bytes)", hint="copy or download it again")
    return suffix


def spatial_shape(path: Path, size: Sequence[int]) -> tuple[int, int, int]:
    """(D, H, W) from a header's (x, y, z, ...); VolumeError unless it is one 3-D volume."""
    text = " x ".join(map(str, size))
    if any(count < 1 for count in size):
        raise VolumeError(path, f"the header gives the size {text}", hint="NIfTI-1 holds at most 32767 voxels along an axis")
    extra = list(size[3:])
    if any(count > 1 for count in extra):
        raise VolumeError(
            path, f"{len(size)}-D with {text} voxels; a CT volume has 3 axes", hint="save one 3-D volume per file"
        )
    if len(size) < 3 or min(size[:3]) < 2:
        raise VolumeError(
            path, f"a single slice ({text} voxels), not a 3-D volume", hint="stack the slices of the series into one file"
        )
    w, h, d = size[:3]
    return d, h, w


def checked_affine(path: Path, affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """The affine, unless it is not finite, has a zero spacing or is singular: then VolumeError."""
    if not np.isfinite(affine).all():
        raise VolumeError(path, "the header's geometry is not finite (NaN or infinite)")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    text = " x ".join(f"{value:g}" for value in spacing[::-1])
    if (spacing < 1e-6).any():
        raise VolumeError(
            path, f"zero voxel spacing: {text} mm (x, y, z)", hint="repair the header; ctgen does not guess a spacing"
        )
    if abs(np.linalg.det(affine[:3, :3] / spacing)) < 1e-3:
        raise VolumeError(path, "two axes of the header's geometry point the same way (singular affine)")
    return affine


def shear_degrees(affine: NDArray[np.float64]) -> float:
    """By how much the axes differ from right angles, at most."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosines = np.abs((axes.T @ axes)[np.triu_indices(3, 1)])
    return float(np.degrees(np.arcsin(np.clip(cosines.max(), 0.0, 1.0))))


def check_memory(header: Header) -> None:
    """VolumeError if the voxels that the header promises cannot be in the file or would not fit in memory."""
    size = " x ".join(map(str, header.shape[::-1]))
    needed, available = header.bytes_needed, available_bytes()
    in_file = header.path.stat().st_size
    if needed > available:
        message = f"{size} voxels need {human_bytes(needed)} of memory, {human_bytes(available)} are available"
        if header.bytes_in_file > in_file * MAX_DEFLATE_RATIO:
            message += f"; the file has only {human_bytes(in_file)}, so its header cannot be right"
        raise VolumeError(header.path, message, hint="crop or down-sample the volume, or use a machine with more memory")


def available_bytes() -> int:
    """Memory that can still be used: the machine's, or what is left of the container's limit."""
    import psutil

    available = int(psutil.virtual_memory().available)
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    try:
        return min(available, int(limit.read_text()) - int(used.read_text()))
    except (OSError, ValueError):
        return available


def human_bytes(count: float) -> str:
    """1234567 -> '1.2 MB'."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return ""
