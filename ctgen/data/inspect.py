"""What is in a scan, and what looks wrong with it, before anything is trained on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ctgen.data.chest import bone_offset_mm, lung_fraction
from ctgen.data.folder_config import FolderConfig
from ctgen.data.intensity import PERCENTILES, Intensity, measure
from ctgen.errors import DataError, MissingFileError, VolumeError
from ctgen.volume.header import Header
from ctgen.volume.io import probe_volume, read_volume
from ctgen.volume.orient import Orientation, to_canonical
from ctgen.volume.volume import Volume

SLAB_MM = 150.0
"""prepare.min_depth_mm and min_lung_fraction as recipes have them by default."""
NO_CHEST = 0.03
THICK_MM = 5.0
ANISOTROPY = 4.0
FRONT_BONE_MM = 30.0


@dataclass(frozen=True)
class Inspection:
    """One file. ``error``: why it cannot be read, and then the rest is None. ``remarks``: what looks wrong, as sentences."""

    path: Path
    header: Header | None = None
    orientation: Orientation | None = None
    intensity: Intensity | None = None
    lung: float | None = None
    """Lung as a share of the body."""
    remarks: tuple[str, ...] = ()
    error: str | None = None

    def __str__(self) -> str:
        return format_inspection(self)


def inspect_path(path: Path | str, *, progress: Callable[[int, int], None] | None = None) -> list[Inspection]:
    """One Inspection for a file, one per scan or DICOM series for a folder (at any depth, unreadable ones included).

    ``progress(scans done, scans)``. Raises VolumeError for a single file that cannot be read, MissingFileError
    for no such path, DataError for a folder without scans.
    """
    path = Path(path)
    if not path.exists():
        raise MissingFileError(f"no file or folder at {path}")
    if path.is_file():
        return [inspect_file(path)]
    files = FolderConfig(root=path).files()
    found = [
        Inspection(place, error=error) if header is None or volume is None else inspect_volume(place, header, volume)
        for place, header, volume, error in _dicom(path, progress)
    ]
    if not files and not found:
        raise DataError(f"no scans under {path} (looked for DICOM, .nii.gz, .nii, .mha, .mhd, .nrrd at any depth)")
    for index, file in enumerate(files):
        if progress is not None:
            progress(index, len(files))
        try:
            found.append(inspect_file(file))
        except VolumeError as error:
            found.append(Inspection(file, error=str(error).removeprefix(f"{file}: ")))
    return found


def inspect_file(path: Path) -> Inspection:
    """Reads the whole file. Raises VolumeError."""
    return inspect_volume(path, probe_volume(path), read_volume(path))


def inspect_volume(path: Path, header: Header, volume: Volume) -> Inspection:
    """The same of a volume that was read already; ``path`` is what it is called."""
    canonical, orientation = to_canonical(volume)
    intensity = measure(volume.hu)
    lung = lung_fraction(canonical) if not intensity.problems or intensity.soft_peak_hu is not None else None
    remarks = [*header.notes, *_geometry_remarks(header, canonical, orientation), *intensity.problems]
    if lung is not None:
        remarks += _anatomy_remarks(canonical, lung)
    return Inspection(path, header, orientation, intensity, lung, tuple(remarks))


def _dicom(path: Path, progress: Callable[[int, int], None] | None) -> Iterable[tuple[Path, Header | None, Volume | None, str]]:
    from ctgen.dicom.tree import holds_dicom

    if not holds_dicom(path):
        return ()
    from ctgen.data.dicom_inspect import dicom_series

    return dicom_series(path, progress)


def format_inspection(inspection: Inspection) -> str:
    """Several lines of plain text, the last ones being what looks wrong."""
    lines = [str(inspection.path)]
    header, intensity = inspection.header, inspection.intensity
    if header is None or intensity is None:
        return f"{lines[0]}\n  cannot be read: {inspection.error}"
    direction = (header.affine[:3, :3] / np.linalg.norm(header.affine[:3, :3], axis=0))[:, ::-1]
    columns = ["(" + ", ".join(f"{round(float(value), 4) + 0.0:g}" for value in direction[:, axis]) + ")" for axis in range(3)]
    lines += [
        f"  file         {header.format}, {header.dtype.name}",
        f"  voxels       {_times(header.shape[::-1], 'd')} (x, y, z)",
        f"  spacing      {_times(header.spacing_mm[::-1], '.4g')} mm",
        f"  extent       {_times(header.extent_mm[::-1], '.0f')} mm",
        f"  orientation  {inspection.orientation} (canonical: LPS), axes in LPS {' '.join(columns)}",
        f"  origin       ({', '.join(f'{value:.1f}' for value in header.affine[:3, 3])}) mm LPS",
        f"  HU           {intensity.low:g} to {intensity.high:g}; "
        + ", ".join(f"{name}%: {value:g}" for name, value in zip(PERCENTILES, intensity.percentiles, strict=True)),
        f"  peaks        air {_peak(intensity.air_peak_hu)}, soft tissue {_peak(intensity.soft_peak_hu)}",
    ]
    if intensity.padding_hu is not None:
        lines.append(f"  padding      {intensity.padding_hu:g} HU, {intensity.padding_share:.1%} of the voxels below -1024")
    if inspection.lung is not None:
        lines.append(f"  lung         {inspection.lung:.1%} of the body")
    lines += [f"  ! {remark}" for remark in inspection.remarks] or ["  nothing looks wrong"]
    return "\n".join(lines)


def render(inspections: Sequence[Inspection]) -> str:
    """All of them, and for a folder a last line that counts."""
    parts = [format_inspection(inspection) for inspection in inspections]
    if len(inspections) > 1:
        unreadable = sum(inspection.error is not None for inspection in inspections)
        odd = sum(bool(inspection.remarks) for inspection in inspections)
        parts.append(f"{len(inspections)} scans: {unreadable} cannot be read, {odd} with remarks")
    return "\n\n".join(parts)


def _geometry_remarks(header: Header, canonical: Volume, orientation: Orientation) -> Iterable[str]:
    spacing, affine = header.spacing_mm, header.affine
    if np.allclose(spacing, 1.0) and np.allclose(affine[:3, 3], 0.0) and np.allclose(np.abs(affine[:3, :3]).max(axis=0), 1.0):
        yield "spacing is 1 x 1 x 1 mm and the origin 0, as in files whose geometry was lost"
    flipped = [axis for axis, flip in zip("zyx", orientation.flipped, strict=True) if flip]
    if flipped:
        yield f"flipped axis {', '.join(flipped)} against LPS: ctgen turns it, a program that ignores the affine does not"
    if orientation.permutation != (0, 1, 2):
        yield f"axes are stored in another order ({orientation}): slices are not axial on disk; ctgen reorders them"
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    oblique = float(np.degrees(np.arccos(np.clip(np.abs(axes).max(axis=0).min(), 0.0, 1.0))))
    if oblique > 0.5:
        yield f"axes are {oblique:.1f} degrees oblique to the patient"
    depth, height, width = canonical.spacing_mm
    extent = depth * canonical.shape[0]
    if extent < SLAB_MM:
        yield f"a slab: it covers {extent:.0f} mm of the body, prepare.min_depth_mm is {SLAB_MM:g} by default"
    if depth > THICK_MM:
        yield f"thick slices: {depth:g} mm"
    ratio = max(depth, height, width) / min(depth, height, width)
    if ratio > ANISOTROPY:
        yield f"anisotropic: the longest voxel edge is {ratio:.1f} times the shortest"
    if not 0.2 <= min(height, width) <= max(height, width) <= 5.0:
        yield f"in-plane spacing {width:g} x {height:g} mm is unusual for CT: are the units mm?"


def _anatomy_remarks(canonical: Volume, lung: float) -> Iterable[str]:
    if lung < NO_CHEST:
        yield f"no chest: {lung:.1%} of the body is lung, prepare.min_lung_fraction is {NO_CHEST:.0%} by default"
    offset = bone_offset_mm(canonical)
    if offset is not None and offset < -FRONT_BONE_MM:
        yield f"bone lies {-offset:.0f} mm in front of the body's middle: the y axis may be flipped, or the patient lay prone"


def _times(values: Iterable[float], form: str) -> str:
    return " x ".join(format(value, form) for value in values)


def _peak(hu: float | None) -> str:
    return "none" if hu is None else f"{hu:g} HU"
