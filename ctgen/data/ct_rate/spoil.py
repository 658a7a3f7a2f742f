"""How simulated files of CT-RATE are spoilt: by their voxels, or by their bytes."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ctgen.atomic import write_atomically

WEB_PAGE = b"<!doctype html><html><head><title>401 Unauthorized</title></head><body>This data set is gated.</body></html>"


def spoil_hu(hu: NDArray[np.int16], spacing_mm: Sequence[float], harm: str, seed: int) -> NDArray[np.int16]:
    """(D, H, W) HU with a harm that is in the voxels; any other harm leaves them as they are."""
    if harm == "hu-twice":
        return hu - np.int16(1024)
    if harm == "head":
        return head(hu.shape, spacing_mm, seed)
    return hu


def head(shape: Sequence[int], spacing_mm: Sequence[float], seed: int) -> NDArray[np.int16]:
    """(D, H, W) HU of a head: scalp, skull, brain and ventricles in air, no lung anywhere."""
    rng = np.random.Generator(np.random.PCG64(seed))
    places = [(np.arange(count) - (count - 1) / 2) * step for count, step in zip(shape, spacing_mm, strict=True)]
    z, y, x = np.meshgrid(*places, indexing="ij")
    tall = 0.46 * shape[0] * spacing_mm[0]
    radius = np.sqrt((z / tall) ** 2 + (y / 98.0) ** 2 + (x / 80.0) ** 2)
    hu = np.full(tuple(shape), -1000.0)
    hu[radius < 1.0] = 45.0
    hu[radius < 0.94] = 900.0 + 300.0 * np.sin(x / 15.0 + y / 20.0)[radius < 0.94]
    hu[radius < 0.89] = 35.0
    hu[(z / tall) ** 2 + (y / 40.0) ** 2 + (x / 16.0) ** 2 < 0.2] = 8.0
    hu += rng.normal(0.0, 6.0, hu.shape)
    whole: NDArray[np.int16] = np.clip(np.rint(hu), -1024, 3071).astype(np.int16)
    return whole


def spoil_bytes(path: Path, harm: str) -> None:
    """Spoil a whole .nii.gz file; a harm that is not in the bytes leaves it as it is."""
    data = path.read_bytes()
    if harm == "truncated":
        spoilt = data[: len(data) // 2]
    elif harm == "web-page":
        spoilt = WEB_PAGE
    elif harm == "empty":
        spoilt = b""
    elif harm == "bit-flip":
        spoilt = _flipped(data)
    elif harm == "not-nifti":
        spoilt = gzip.compress(b"this is not a volume\n" * 200, mtime=0)
    elif harm in ("zero-spacing", "nan", "normalised"):
        spoilt = gzip.compress(_header_or_voxels(gzip.decompress(data), harm), 1, mtime=0)
    else:
        return
    write_atomically(path, lambda temporary: temporary.write_bytes(spoilt))


def _flipped(data: bytes) -> bytes:
    """The same volume but for one bit of a voxel, under the old checksum: only who reads to the end can tell."""
    whole = bytearray(gzip.decompress(data))
    whole[-101] ^= 1
    packed = gzip.compress(bytes(whole), 1, mtime=0)
    return packed[:-8] + data[-8:]


def _header_or_voxels(whole: bytes, harm: str) -> bytes:
    header = bytearray(whole[:352])
    if harm == "zero-spacing":
        struct.pack_into("<3f", header, 80, 0.0, 0.0, 0.0)
        return bytes(header) + whole[352:]
    values = np.frombuffer(whole[352:], "<i2").astype("<f4")
    values = np.clip(values / 1000, -1, 1) if harm == "normalised" else values
    if harm == "nan":
        values[: len(values) // 50] = np.nan
    struct.pack_into("<2h", header, 70, 16, 32)
    return bytes(header) + values.astype("<f4").tobytes()
