"""NIfTI-1 and -2 in, NIfTI-1 out.

Read here and not through SimpleITK, which returns the missing part of a truncated .nii.gz as zeros without an error,
replaces a zero spacing by 1 mm, and refuses sheared axes (gantry tilt) and NIfTI-2. nibabel parses the header; the stream is
read to its end, so that its checksum is verified.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ctgen.errors import VolumeError
from ctgen.volume.header import Header, checked_affine, human_bytes, shear_degrees, spatial_shape
from ctgen.volume.volume import Volume
from ctgen.volume.voxels import VoxelSink

fast_gzip: Any = gzip
DAMAGED: tuple[type[Exception], ...] = (zlib.error, gzip.BadGzipFile)
try:  # decompression is most of the work of reading a scan; ISA-L does it in a third of zlib's time
    from isal import igzip, isal_zlib
except ImportError:  # no wheel for this machine: the same bytes, later
    pass
else:
    fast_gzip, DAMAGED = igzip, (*DAMAGED, isal_zlib.error)  # type: ignore[arg-type]

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
MILLIMETRES = {1: 1000.0, 2: 1.0, 3: 0.001}
NUMBERS = frozenset({2, 4, 8, 16, 64, 256, 512, 768, 1024, 1280})
COMPRESSION = 1

QFORM_MM = 5e-5
"""A qform that puts a corner of the volume further than this from where the sform does is not written."""


def read_header(path: Path) -> Header:
    """Geometry and voxel type; sform before qform, as nibabel. Raises VolumeError."""
    nifti = _parse(path)
    count = int(nifti["dim"][0])
    if not 1 <= count <= 7:
        raise VolumeError(path, f"the NIfTI header says it has {count} axes; the file is damaged")
    size = [int(size) for size in nifti["dim"][1 : count + 1]]
    code = int(nifti["datatype"])
    if code not in NUMBERS:
        kind = {128: "RGB colour", 2304: "RGBA colour", 32: "complex", 1792: "complex"}.get(code, f"of NIfTI type {code}")
        raise VolumeError(path, f"voxels are {kind}; a CT volume has one number (HU) per voxel")
    if count >= 5 and size[3] == 1 and size[4] > 1:
        raise VolumeError(path, f"{size[4]} numbers per voxel (colour or vector); a CT volume has one (HU) per voxel")
    shape = spatial_shape(path, size)
    dtype = nifti.get_data_dtype()
    affine, notes = _affine(path, nifti)
    slope, intercept = float(nifti["scl_slope"]), float(nifti["scl_inter"])
    if slope == 0.0 or not np.isfinite(slope):
        slope, intercept = 1.0, 0.0
    if not np.isfinite(intercept):
        raise VolumeError(path, f"the header's scl_inter is {intercept}")
    return Header(path, "NIfTI", shape, dtype, affine, tuple(notes), slope, intercept, max(int(nifti["vox_offset"]), 0))


def read_voxels(header: Header) -> NDArray[Any]:
    """(D, H, W) int16 or float32 HU. Raises VolumeError when the stream ends early or fails its checksum."""
    sink = VoxelSink(header.shape, header.dtype, header.path, header.slope, header.intercept)
    filled = 0
    with _errors(header.path), _open(header.path) as stream:
        _skip(stream, header.data_offset)
        for view in sink.buffers():
            while view:
                count = stream.readinto(view[: 1 << 22])  # type: ignore[attr-defined]
                if not count:
                    there = f"{human_bytes(filled)} of {human_bytes(header.bytes_in_file)}"
                    raise VolumeError(
                        header.path, f"the file ends after {there} of voxels (truncated)", hint="copy or download it again"
                    )
                filled += count
                view = view[count:]
        while stream.read(1 << 20):  # to the end, where gzip's checksum is
            pass
    return sink.result()


def write(volume: Volume, path: Path, target: Path) -> None:
    """Write ``volume`` (int16 or float32) to ``target``; ``path`` is the name for errors. Equal volumes give equal bytes."""
    import nibabel

    if max(volume.shape) > 32767:
        raise VolumeError(
            path, f"NIfTI-1 holds at most 32767 voxels along an axis, the volume has {volume.shape}", hint="write .mha"
        )
    affine = LPS_FROM_RAS @ volume.affine @ _reverse()
    header = nibabel.Nifti1Header()
    header.set_data_shape(volume.shape[::-1])
    header.set_data_dtype(volume.hu.dtype)
    header.set_xyzt_units("mm")
    header.set_slope_inter(1.0, 0.0)
    header.set_sform(affine, code=1)
    # A quaternion holds no sheared axes, and in float32 no turn of almost 180 degrees: better no qform than one that
    # contradicts the sform.
    header.set_qform(affine, code=1)
    corners = np.array([[*index, 1] for index in itertools.product(*[(0, size - 1) for size in volume.shape[::-1]])]).T
    if float(np.abs((header.get_qform() - affine) @ corners).max()) > QFORM_MM:
        header.set_qform(affine, code=0)
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    with contextlib.ExitStack() as stack:
        stream: Any = stack.enter_context(target.open("wb"))
        if target.name.endswith(".gz"):
            packed = gzip.GzipFile(filename="", mode="wb", compresslevel=COMPRESSION, fileobj=stream, mtime=0)
            stream = stack.enter_context(packed)
        stream.write(header.binaryblock + b"\0\0\0\0")
        little = volume.hu.astype(volume.hu.dtype.newbyteorder("<"), copy=False)
        for plane in little:
            stream.write(np.ascontiguousarray(plane).tobytes())


def _reverse() -> NDArray[np.float64]:
    """(d, h, w, 1) <-> (x, y, z, 1) indices."""
    return np.array([[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]], np.float64)


def _parse(path: Path) -> Any:
    import nibabel

    with _errors(path), _open(path) as stream:
        start = stream.read(348)
        sizes = [int.from_bytes(start[:4], order, signed=True) for order in ("little", "big")] if len(start) == 348 else []
        if 540 in sizes:
            start += stream.read(540 - 348)
    if 540 in sizes and len(start) == 540:
        header = nibabel.Nifti2Header(start, check=False)
        known = bytes(header["magic"])[:3] in (b"n+2",)
    elif 348 in sizes:
        header = nibabel.Nifti1Header(start, check=False)
        known = bytes(header["magic"])[:3] in (b"n+1",)
    else:
        raise VolumeError(path, f"not a NIfTI file (it begins with {start[:12]!r})")
    if not known:
        raise VolumeError(path, "not a single-file NIfTI (an Analyze or .hdr/.img header)", hint="save it as .nii.gz")
    return header


def _affine(path: Path, nifti: Any) -> tuple[NDArray[np.float64], list[str]]:
    """LPS affine of (d, h, w) indices, and what was odd about it."""
    notes: list[str] = []
    zooms = np.asarray(nifti["pixdim"][1:4], np.float64)
    if not np.isfinite(zooms).all() or (np.abs(zooms) < 1e-6).any():
        text = " x ".join(f"{value:g}" for value in zooms)
        raise VolumeError(
            path, f"zero voxel spacing: {text} mm (x, y, z)", hint="repair the header; ctgen does not guess a spacing"
        )
    forms: dict[str, NDArray[np.float64]] = {}
    if int(nifti["sform_code"]) > 0:
        forms["sform"] = np.asarray(nifti.get_sform(), np.float64)
    if int(nifti["qform_code"]) > 0:
        try:
            forms["qform"] = np.asarray(nifti.get_qform(), np.float64)
        except Exception as error:  # nibabel raises several kinds for a quaternion that is none
            notes.append(f"the qform is not a rotation and was ignored ({error})")
    if not forms:
        notes.append("no orientation in the header (qform and sform codes are 0): axes taken as left, posterior, superior")
        forms["none"] = LPS_FROM_RAS @ np.diag([*np.abs(zooms), 1.0])
    ras = next(iter(forms.values()))
    if "sform" in forms and "qform" in forms:
        size = np.array([*map(int, nifti["dim"][1:4])]) - 1
        corners = np.array([[x, y, z, 1] for x in (0, size[0]) for y in (0, size[1]) for z in (0, size[2])], np.float64).T
        apart = float(np.abs((forms["sform"] - forms["qform"]) @ corners).max())
        if apart > 0.1:
            notes.append(f"qform and sform differ by up to {apart:.1f} mm; the sform is used")
    unit = int(nifti["xyzt_units"]) & 7
    scale = MILLIMETRES.get(unit, 1.0)
    if scale != 1.0:
        notes.append(f"lengths are in {'metres' if unit == 1 else 'micrometres'} and were converted to mm")
        ras = np.diag([scale, scale, scale, 1.0]) @ ras
    affine = checked_affine(path, LPS_FROM_RAS @ ras @ _reverse())
    if (tilt := shear_degrees(affine)) > 0.1:
        notes.append(
            f"axes are {tilt:.1f} degrees off right angles (gantry tilt?); programs built on ITK refuse such NIfTI files"
        )
    return affine, notes


def _open(path: Path) -> IO[bytes]:
    raw = path.open("rb")
    magic = raw.read(2)
    raw.seek(0)
    if magic == b"\x1f\x8b":
        raw.close()
        packed: IO[bytes] = fast_gzip.open(path, "rb")
        return packed
    if path.name.lower().endswith(".gz"):
        raw.close()
        raise VolumeError(
            path,
            f"is named .gz but is not gzip data (it begins with {magic!r})",
            hint="is it a text or web page saved by mistake?",
        )
    return raw


def _skip(stream: IO[bytes], count: int) -> None:
    while count > 0:
        step = len(stream.read(min(count, 1 << 20)))
        if not step:
            return
        count -= step


@contextlib.contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except EOFError as error:
        raise VolumeError(path, "the gzip stream ends too early (truncated file)", hint="copy or download it again") from error
    except DAMAGED as error:
        raise VolumeError(path, f"the gzip data is damaged ({error})", hint="copy or download it again") from error
    except OSError as error:
        raise VolumeError(path, f"cannot be read: {error.strerror or error}") from error
