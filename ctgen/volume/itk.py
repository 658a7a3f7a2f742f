"""MetaImage (.mha, .mhd) and NRRD through SimpleITK, with the checks that it leaves out."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctgen.errors import VolumeError
from ctgen.volume.header import Header, checked_affine, human_bytes, shear_degrees, spatial_shape
from ctgen.volume.volume import Volume
from ctgen.volume.voxels import to_voxels

LONGEST_TEXT_HEADER = 1 << 16
AGAIN = "copy or download it again"


def read_header(path: Path) -> Header:
    """Geometry and voxel type. Raises VolumeError."""
    import SimpleITK as sitk

    meta = path.name.lower().endswith((".mha", ".mhd"))
    fields, _ = _text_header(path, "=" if meta else ":")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.SetImageIO("MetaImageIO" if meta else "NrrdImageIO")
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise VolumeError(path, f"not a readable {'MetaImage' if meta else 'NRRD'} file: {_last_line(error)}") from error
    if reader.GetNumberOfComponents() != 1:
        count = reader.GetNumberOfComponents()
        raise VolumeError(path, f"{count} numbers per voxel (colour or vector); a CT volume has one (HU) per voxel")
    dtype = _dtype(path, sitk.GetPixelIDValueAsString(reader.GetPixelID()))
    size = reader.GetSize()
    shape = spatial_shape(path, size)
    direction = np.asarray(reader.GetDirection(), np.float64).reshape(len(size), len(size))[:3, :3]
    notes = []
    named = {key for key, _ in fields}
    if meta and not named & {"elementspacing", "elementsize"}:
        notes.append("no voxel spacing in the header: 1 x 1 x 1 mm is assumed")
    if not meta and not named & {"space directions", "spacings"}:
        notes.append("no voxel spacing in the header: 1 x 1 x 1 mm is assumed")
    affine = _affine(direction, reader.GetSpacing()[:3], reader.GetOrigin()[:3])
    checked_affine(path, affine)
    if (tilt := shear_degrees(affine)) > 0.1:
        notes.append(f"axes are {tilt:.1f} degrees off right angles (gantry tilt?)")
    return Header(path, "MetaImage" if meta else "NRRD", shape, dtype, affine, tuple(notes))


def read_voxels(header: Header) -> NDArray[Any]:
    """(D, H, W) int16 or float32 HU. Raises VolumeError when data are missing or damaged."""
    import SimpleITK as sitk

    if header.format == "MetaImage":
        _check_metaimage_data(header)
    try:
        image = sitk.ReadImage(str(header.path))
    except RuntimeError as error:
        raise VolumeError(header.path, f"the voxels cannot be read: {_last_line(error)}", hint=AGAIN) from error
    # a view is valid as long as the image is: what to_voxels does not convert must be copied
    view = sitk.GetArrayViewFromImage(image).reshape(header.shape)
    hu = to_voxels(view, header.path)
    return hu.copy() if np.may_share_memory(hu, view) else hu


def write(volume: Volume, path: Path, target: Path) -> None:
    """Write ``volume`` (already int16 or float32) to ``target``, compressed; ``path`` is the name for errors."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.hu))
    spacing = np.linalg.norm(volume.affine[:3, :3], axis=0)
    image.SetSpacing(spacing[::-1].tolist())
    image.SetDirection((volume.affine[:3, :3] / spacing)[:, ::-1].ravel().tolist())
    image.SetOrigin(volume.affine[:3, 3].tolist())
    try:
        sitk.WriteImage(image, str(target), useCompression=True)
    except RuntimeError as error:
        raise VolumeError(path, f"cannot be written: {_last_line(error)}") from error


def _affine(direction: NDArray[np.float64], spacing: tuple[float, ...], origin: tuple[float, ...]) -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3, :3] = (direction * np.asarray(spacing))[:, ::-1]
    affine[:3, 3] = origin
    return affine


def _text_header(path: Path, separator: str) -> tuple[list[tuple[str, str]], int]:
    """(lower-case key, value) pairs and the byte where local data begin; VolumeError if it is no such header."""
    try:
        with path.open("rb") as stream:
            start = stream.read(LONGEST_TEXT_HEADER)
    except OSError as error:
        raise VolumeError(path, f"cannot be read: {error.strerror or error}") from error
    meta = separator == "="
    if (not meta and not start.startswith(b"NRRD000")) or (meta and b"=" not in start[:200]):
        raise VolumeError(path, f"not a {'MetaImage' if meta else 'NRRD'} file (it begins with {start[:12]!r})")
    fields, offset = [], 0
    for line in start.split(b"\n"):
        offset += len(line) + 1
        text = line.decode("latin-1").strip()
        if not meta and not text:
            break
        key, found, value = text.partition(separator)
        if found and not key.startswith("#"):
            fields.append((key.strip().lower(), value.strip()))
        if meta and key.strip().lower() == "elementdatafile":
            break
    for key, value in fields:
        words = value.replace("(", " ").replace(")", " ").replace(",", " ").split()
        if key in ("elementspacing", "spacings") and any(_is_zero(word) for word in words):
            hint = "repair the header; ctgen does not guess a spacing"
            raise VolumeError(path, f"zero voxel spacing: {' x '.join(words)} mm (x, y, z)", hint=hint)
        if key == "space directions":
            vectors = [word.strip("() ").split(",") for word in value.split(") (")]
            if any(len(vector) == 3 and all(_is_zero(word) for word in vector) for vector in vectors):
                raise VolumeError(path, f"zero voxel spacing: space directions are {value}", hint="repair the header")
    return fields, offset


def _is_zero(word: str) -> bool:
    try:
        return not abs(float(word)) > 1e-6
    except ValueError:
        return False


def _check_metaimage_data(header: Header) -> None:
    # MetaIO reports short or damaged data on stderr only and hands out what it has.
    fields, offset = _text_header(header.path, "=")
    values = dict(fields)
    name = values.get("elementdatafile", "")
    local = name.upper() == "LOCAL"
    if not local and (name.upper().startswith("LIST") or "%" in name):
        return
    file = header.path if local else header.path.parent / name
    if not file.is_file():
        raise VolumeError(
            header.path, f"its data file {name!r} is not beside it", hint="keep the .mhd and its data file together"
        )
    if not local:
        offset = max(int(values.get("headersize", "0")), 0)
    wanted = header.bytes_in_file
    found = file.stat().st_size - offset
    if values.get("compresseddata", "false").lower() == "true":
        found = _inflated_size(header.path, file, offset)
    if found < wanted:
        raise VolumeError(
            header.path, f"the file holds {human_bytes(found)} of {human_bytes(wanted)} of voxels (truncated)", hint=AGAIN
        )


def _inflated_size(path: Path, file: Path, offset: int) -> int:
    inflate, total = zlib.decompressobj(zlib.MAX_WBITS | 32), 0
    try:
        with file.open("rb") as stream:
            stream.seek(offset)
            while not inflate.eof and (chunk := inflate.unconsumed_tail or stream.read(1 << 20)):
                # a megabyte of a very even volume would become a gigabyte
                total += len(inflate.decompress(chunk, 1 << 22))
            total += len(inflate.flush())
    except zlib.error as error:
        raise VolumeError(path, f"the compressed data are damaged ({error})", hint=AGAIN) from error
    return total


def _dtype(path: Path, pixel: str) -> np.dtype[Any]:
    names = {"integer": "i", "float": "f"}
    words = pixel.replace("-bit", "").split()
    if len(words) == 2 and words[1] == "float":
        return np.dtype(f"f{int(words[0]) // 8}")
    if len(words) == 3 and words[2] in names:
        return np.dtype(("u" if words[1] == "unsigned" else "i") + str(int(words[0]) // 8))
    raise VolumeError(path, f"voxels are {pixel}; a CT volume has one number (HU) per voxel")


def _last_line(error: RuntimeError) -> str:
    """ITK's own words without its source paths and addresses."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rpartition("): ")[2].removeprefix("sitk::ERROR: ")
