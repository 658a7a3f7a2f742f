"""Volumes from and to files: NIfTI, MetaImage and NRRD, chosen by the suffix; in also a folder that holds one DICOM series."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ctgen.atomic import write_atomically
from ctgen.errors import VolumeError
from ctgen.volume import itk, nifti
from ctgen.volume.header import (
    VOLUME_SUFFIXES,
    Header,
    check_memory,
    checked_suffix,
    is_volume_file,
    volume_stem,
    volume_suffix,
)
from ctgen.volume.volume import Volume
from ctgen.volume.voxels import to_voxels

__all__ = ["VOLUME_SUFFIXES", "Header", "is_volume_file", "probe_volume", "read_volume", "volume_stem", "write_volume"]


def probe_volume(path: Path | str) -> Header:
    """What the header says, no voxel read. Raises VolumeError if it cannot be a CT volume or would not fit in memory."""
    path = Path(path)
    if _is_dicom(path):
        from ctgen.dicom.reading import probe_path

        return probe_path(path)
    suffix = checked_suffix(path)
    header = nifti.read_header(path) if suffix.startswith(".nii") else itk.read_header(path)
    check_memory(header)
    return header


def read_volume(path: Path | str) -> Volume:
    """The volume as stored: axes in the file's own order (slowest first), HU unchanged, affine to LPS mm; int16 or float32.

    ``meta``: source, format, dtype as stored, notes (list of what was odd in the header). Raises VolumeError, once and
    clearly, for anything that is not one readable 3-D volume of finite numbers.
    """
    if _is_dicom(Path(path)):
        from ctgen.dicom.reading import read_path

        return read_path(Path(path))
    header = probe_volume(path)
    try:
        hu = nifti.read_voxels(header) if header.format == "NIfTI" else itk.read_voxels(header)
    except MemoryError as error:
        size = " x ".join(map(str, header.shape[::-1]))
        raise VolumeError(header.path, f"not enough memory for {size} voxels") from error
    meta = {"source": str(header.path), "format": header.format, "dtype": header.dtype.name, "notes": list(header.notes)}
    return Volume(hu, header.affine, meta)


def _is_dicom(path: Path) -> bool:
    """A folder with DICOM files, or a DICOM file; pydicom is imported for nothing else."""
    if volume_suffix(path) is not None or not path.exists():
        return False
    from ctgen.dicom.reading import is_dicom

    return is_dicom(path)


def write_volume(volume: Volume, path: Path | str) -> Path:
    """Write atomically in the format of the suffix; int16 where every value is a whole number in range, else float32.

    The affine is kept in full (NIfTI: sform and qform alike). Raises VolumeError: unknown suffix, NaN or infinite voxels,
    a single slice, a folder or disk that does not take it.
    """
    path = Path(path)
    suffix = volume_suffix(path)
    if suffix is None:
        raise VolumeError(path, f"unknown volume suffix {path.suffix!r}", hint=f"ctgen writes {', '.join(VOLUME_SUFFIXES)}")
    if min(volume.shape) < 2:
        raise VolumeError(path, f"a volume of {' x '.join(map(str, volume.shape))} voxels (D, H, W) has no third axis to write")
    if not np.isfinite(volume.affine).all() or abs(np.linalg.det(volume.affine[:3, :3])) < 1e-12:
        raise VolumeError(path, "the volume's affine is singular or not finite")
    stored = Volume(to_voxels(volume.hu, path), volume.affine)

    def write(temporary: Path) -> None:
        (nifti if suffix.startswith(".nii") else itk).write(stored, path, temporary)
        for companion in temporary.parent.iterdir():  # .mhd keeps its voxels in a file of their own, which must be there first
            if companion != temporary:
                companion.replace(path.with_name(companion.name))

    try:
        return write_atomically(path, write)
    except OSError as error:
        raise VolumeError(path, f"cannot be written: {error.strerror or error}") from error
