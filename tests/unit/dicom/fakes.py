"""DICOM files as scanners and archives write them, tiny, with the mistakes that are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

SIZE = (14, 16)
"""Rows, columns: unlike, so that a transposed axis shows."""
SPACING = (0.7, 0.8)
"""Between rows, between columns, mm."""
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
ROOT = "1.2.826.0.1.3680043.8.498."


def uid(*parts: object) -> str:
    return pydicom.uid.generate_uid(prefix=ROOT, entropy_srcs=[str(part) for part in parts])


def stored(index: int, seed: int = 0) -> np.ndarray:
    """(rows, columns) uint16: air above, tissue below, each slice different."""
    rng = np.random.default_rng([seed, index])
    values = rng.integers(0, 60, SIZE) + np.where(np.arange(SIZE[0])[:, None] < 6, 20, 1050)
    return values.astype(np.uint16)


def slice_dataset(index: int, position: Sequence[float], *, series: str = "a", seed: int = 0, **changes: Any) -> Dataset:
    """One CT image; ``changes`` set attributes, None removes one."""
    ds = Dataset()
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = uid(series, index)
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = (
        uid("study", series),
        uid("series", series),
        uid("frame"),
    )
    ds.PatientName, ds.PatientID, ds.AccessionNumber = "Mustermann^Jürgen", "PAT-4711", f"ACC-{series}"
    ds.StudyDate, ds.Modality, ds.Manufacturer = "20240131", "CT", "ACME"
    ds.SeriesNumber, ds.SeriesDescription, ds.ConvolutionKernel = 3, "Thorax 2.0", "B30f"
    ds.InstanceNumber, ds.AcquisitionNumber, ds.KVP, ds.SliceThickness = index + 1, 1, 120, 2.0
    ds.ImagePositionPatient = [f"{value:.6f}".rstrip("0").rstrip(".") for value in position]
    ds.ImageOrientationPatient = list(AXIAL)
    ds.PixelSpacing = list(SPACING)
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = *SIZE, 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = 1, -1024, "HU"
    ds.PixelData = stored(index, seed).tobytes()
    for keyword, value in changes.items():
        if value is None:
            del ds[keyword]
        elif isinstance(value, np.ndarray):
            ds.PixelData = value.astype("<u2" if value.dtype.kind == "u" else "<i2").tobytes()
        else:
            setattr(ds, keyword, value)
    return ds


def save(ds: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    """Part 10 with ``syntax``; RLE is compressed here."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax == RLELossless else syntax
    if "PixelData" in ds:
        ds["PixelData"].VR = "OW"
    if syntax == RLELossless:
        ds.compress(RLELossless, generate_instance_uid=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


def write_series(
    folder: Path,
    count: int = 12,
    *,
    step: Sequence[float] = (0.0, 0.0, 2.0),
    origin: Sequence[float] = (-10.0, -20.0, -30.0),
    positions: Sequence[Sequence[float]] | None = None,
    syntax: str = ExplicitVRLittleEndian,
    name: str = "IM{:03}",
    order: Sequence[int] | None = None,
    **changes: Any,
) -> list[Path]:
    """``count`` slices ``step`` apart; ``order``: which slice is written as which file."""
    places = positions if positions is not None else [np.asarray(origin) + index * np.asarray(step) for index in range(count)]
    numbers = list(order) if order is not None else list(range(len(places)))
    return [
        save(slice_dataset(index, places[index], **changes), folder / name.format(number), syntax)
        for number, index in enumerate(numbers)
    ]


def write_enhanced(path: Path, count: int = 12, *, syntax: str = ExplicitVRLittleEndian, positions: Any = None) -> Path:
    """A multi-frame Enhanced CT; the frames are stored from top to bottom."""
    ds = slice_dataset(0, (0, 0, 0))
    ds.SOPClassUID = EnhancedCTImageStorage
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"):
        del ds[keyword]
    ds.NumberOfFrames = count
    shared, orientation, measures, rescale = Dataset(), Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = list(AXIAL)
    measures.PixelSpacing, measures.SliceThickness = list(SPACING), 2.0
    rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = 1, -1024, "HU"
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    shared.PixelValueTransformationSequence = [rescale]
    ds.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for index in range(count):
        place, groups = Dataset(), Dataset()
        place.ImagePositionPatient = [-10, -20, positions[index] if positions else -30 + 2 * (count - 1 - index)]
        groups.PlanePositionSequence = [place]
        frames.append(groups)
    ds.PerFrameFunctionalGroupsSequence = frames
    ds.PixelData = np.stack([stored(count - 1 - index) for index in range(count)]).tobytes()
    return save(ds, path, syntax)


def wanted_hu(count: int = 12, seed: int = 0) -> np.ndarray:
    """(count, rows, columns) int16 HU of an untouched series."""
    return np.stack([stored(index, seed) for index in range(count)]).astype(np.int16) - 1024


SYNTAXES = {
    "implicit": ImplicitVRLittleEndian,
    "explicit": ExplicitVRLittleEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "rle": RLELossless,
}
