"""Audit of one volume: its header, and if asked for its voxels. Runs in worker processes: takes and gives plain data."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ctgen.data.chest import lung_fraction
from ctgen.data.ct_rate.dataset import is_lost, placed
from ctgen.data.ct_rate.findings import Finding
from ctgen.data.ct_rate.layout import Found
from ctgen.data.ct_rate.tables import Scan
from ctgen.data.inspect import NO_CHEST, SLAB_MM
from ctgen.data.intensity import histogram_of
from ctgen.data.rescale import judge, to_hu
from ctgen.errors import VolumeError
from ctgen.volume.header import human_bytes
from ctgen.volume.io import probe_volume, read_volume
from ctgen.volume.orient import to_canonical
from ctgen.volume.volume import Volume

FLOOR_HU = -1024.0
SPACING_TOLERANCE = 0.02
CHECK = 1
"""Raise with every change of what is checked: older results of an interrupted audit are then not taken over."""


@dataclass(frozen=True)
class Checked:
    """What is known of a volume. ``content``: CRC-32 and size of the unpacked bytes as gzip's trailer gives them."""

    path: str
    bytes: int
    mtime_ns: int
    voxels: bool
    error: str = ""
    shape: tuple[int, ...] = ()
    spacing_mm: tuple[float, ...] = ()
    content: tuple[int, int] | None = None
    lost_geometry: bool = False
    geometry: str = ""
    intensity: dict[str, Any] = field(default_factory=dict)
    hu: str = ""
    """Kind of what is wrong with the HU, if anything is."""
    message: str = ""
    padding_hu: float | None = None
    padding_share: float = 0.0
    lung: float | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def check_volume(base: Path, found: Found, scan: Scan, *, voxels: bool) -> Checked:
    """Never raises for a damaged file: that is a result."""
    path = base / found.path
    try:
        state = path.stat()
    except OSError as error:
        return Checked(found.path, 0, 0, voxels, error=f"cannot be read: {error.strerror or error}")
    facts: dict[str, Any] = {"path": found.path, "bytes": state.st_size, "mtime_ns": state.st_mtime_ns, "voxels": voxels}
    try:
        header = probe_volume(path)
        facts |= {"shape": header.shape, "spacing_mm": header.spacing_mm, "content": _trailer(path)}
        volume = read_volume(path) if voxels else None
    except VolumeError as error:
        return Checked(**facts, error=error.message.removeprefix(f"{path}: "))
    wanted = header.data_offset + header.bytes_in_file
    if not voxels and facts["content"] and facts["content"][1] < wanted < 1 << 32:
        short = f"holds {human_bytes(facts['content'][1])} unpacked, its header asks for {human_bytes(wanted)}"
        return Checked(**facts, error=f"{short} (truncated or damaged)")
    facts["lost_geometry"] = is_lost(header.spacing_mm, header.affine)
    try:
        bare = Volume(np.empty((2, 2, 2), np.int16), header.affine)
        affine, facts["geometry"] = placed(bare, scan, found)
        facts["spacing_mm"] = Volume(bare.hu, affine).spacing_mm
    except VolumeError as error:
        return Checked(**facts, error=error.message.removeprefix(f"{found.path}: "))
    if volume is None:
        return Checked(**facts)
    decision = judge(histogram_of(volume.hu), scan.rescale)
    facts["intensity"] = decision.to_json()
    if decision.reading is None:
        twice = decision.stored.moved_by < 0 or (decision.rescaled is not None and decision.rescaled.moved_by < 0)
        kind = "hu-twice" if twice else "raw-in-fixed" if found.fixed and decision.stored.moved_by > 0 else "implausible-hu"
        return Checked(**facts, hu=kind, message=str(decision))
    if found.fixed and decision.reading == "csv-rescale":
        facts |= {"hu": "raw-in-fixed", "message": str(decision)}
    if not found.fixed and decision.reading == "hu" and decision.rescaled is not None:
        facts |= {"hu": "hu-in-raw", "message": str(decision)}
    result = decision.result
    facts |= {"padding_hu": result.padding_hu, "padding_share": result.padding_share}
    canonical, _ = to_canonical(Volume(to_hu(volume.hu, decision, path, FLOOR_HU), affine))
    return Checked(**facts, lung=lung_fraction(canonical))


def findings_of(checked: Checked, found: Found, scan: Scan, *, listed: bool) -> Iterator[Finding]:
    """``listed``: the volume is on the list of those without a chest."""
    if checked.error:
        yield Finding("unreadable", found.path, checked.error)
        return
    if checked.hu:
        yield Finding(checked.hu, found.path, checked.message)
    if scan.shape is not None and scan.shape != checked.shape:
        message = f"{_times(checked.shape)} voxels (D, H, W), the table says {_times(scan.shape)}"
        yield Finding("metadata-mismatch", found.name.text, message)
    elif checked.geometry == "file" and scan.spacing_mm is not None and _apart(checked.spacing_mm, scan.spacing_mm):
        message = f"spacing {_times(checked.spacing_mm)} mm (D, H, W), the table says {_times(scan.spacing_mm)}"
        yield Finding("metadata-mismatch", found.name.text, message)
    if checked.lost_geometry and found.fixed:
        yield Finding("geometry-lost", found.path, "1 x 1 x 1 mm at the origin")
    if checked.padding_hu is not None:
        share = f"{checked.padding_share:.1%} of the voxels, mostly {checked.padding_hu:g} HU"
        yield Finding("padding", found.path, share)
    covered = checked.shape[0] * checked.spacing_mm[0]
    if covered < SLAB_MM:
        yield Finding("short", found.path, f"{checked.shape[0]} slices cover {covered:.0f} mm")
    if checked.lung is not None and checked.lung < NO_CHEST and not listed:
        yield Finding("no-chest", found.path, f"{checked.lung:.1%} of the body is lung")


def _apart(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return any(abs(a - b) > SPACING_TOLERANCE * b for a, b in zip(one, other, strict=True))


def _times(values: tuple[float, ...]) -> str:
    return " x ".join(f"{value:g}" for value in values)


def _trailer(path: Path) -> tuple[int, int] | None:
    """(CRC-32, size modulo 2^32) at the end of a gzip file of one member; None where they say nothing of the whole."""
    with path.open("rb") as stream:
        start = stream.read(4)
        # Flag 4, an extra field: a file of many blocks (bgzip), whose last trailer is of the last block.
        if len(start) < 4 or start[:2] != b"\x1f\x8b" or start[3] & 4:
            return None
        stream.seek(-8, 2)
        crc, size = struct.unpack("<2I", stream.read(8))
    return (crc, size) if size else None
