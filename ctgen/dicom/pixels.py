"""Stored values of one image: pydicom decodes native, deflated and RLE data, SimpleITK's GDCM the JPEG families.

pydicom alone needs further packages for JPEG (its plugin table); SimpleITK brings GDCM, but also applies the rescale by itself.
So a compressed frame is put into a plain file of its own for GDCM, and ctgen rescales.
"""

from __future__ import annotations

import tempfile
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctgen.dicom.plane import Plane

PYDICOM_DECODES = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.5",
)
GDCM_DECODES = (
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.81",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
)


class PixelError(Exception):
    """The pixels of an image cannot be decoded; the text says why."""


def stored_values(path: Path, plane: Plane) -> NDArray[Any]:
    """(rows, columns) integers as stored, before rescaling. Raises PixelError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            values = _decoded(path, plane)
        except PixelError:
            raise
        except OSError as error:
            raise PixelError(f"its file cannot be read: {error.strerror or type(error).__name__}") from error
        except Exception as error:  # decoders raise nearly anything for damaged data
            text = " ".join(str(error).split())
            raise PixelError(f"its pixels cannot be decoded ({type(error).__name__}: {text[:160]})") from error
    if values.shape != (plane.rows, plane.columns):
        raise PixelError(f"its pixels are {values.shape}, the header says {plane.rows} x {plane.columns}")
    return values


def _decoded(path: Path, plane: Plane) -> NDArray[Any]:
    from pydicom.pixels import pixel_array
    from pydicom.uid import UID

    if plane.syntax not in (*PYDICOM_DECODES, *GDCM_DECODES):
        raise PixelError(f"its transfer syntax is {UID(plane.syntax).name}, which neither pydicom nor GDCM decodes here")
    data = _dataset(path)
    if "PixelData" not in data:
        raise PixelError("it has no PixelData")
    frame = max(plane.frame, 0)
    if plane.syntax in PYDICOM_DECODES:
        values: NDArray[Any] = pixel_array(data, index=frame, raw=True)
        return values
    return _by_gdcm(data, frame, plane)


@lru_cache(maxsize=1)
def _dataset(path: Path) -> Any:
    """The last file stays open: the frames of a multi-frame file come one after the other."""
    import pydicom
    from pydicom.uid import ImplicitVRLittleEndian

    data = pydicom.dcmread(path, force=True)
    if "TransferSyntaxUID" not in data.file_meta:
        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return data


def _by_gdcm(data: Any, frame: int, plane: Plane) -> NDArray[Any]:
    import pydicom
    import SimpleITK as sitk
    from pydicom.encaps import encapsulate, get_frame
    from pydicom.uid import SecondaryCaptureImageStorage, generate_uid

    frames = int(data.get("NumberOfFrames", 1) or 1)
    plain = pydicom.Dataset()
    plain.SOPClassUID, plain.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    plain.StudyInstanceUID = plain.SeriesInstanceUID = generate_uid()
    plain.Modality, plain.ConversionType = "OT", "WSD"
    for keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel"):
        setattr(plain, keyword, data.get(keyword))
    plain.PhotometricInterpretation = "MONOCHROME2"
    plain.PixelData = encapsulate([get_frame(data.PixelData, frame, number_of_frames=frames)])
    plain["PixelData"].VR = "OB"
    plain.file_meta = pydicom.dataset.FileMetaDataset()
    plain.file_meta.TransferSyntaxUID = plane.syntax
    with tempfile.TemporaryDirectory(prefix="ctgen-") as folder:
        file = Path(folder) / "frame.dcm"
        plain.save_as(file, enforce_file_format=True)
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(file))
        image = reader.Execute()
    values: NDArray[Any] = np.asarray(sitk.GetArrayFromImage(image))
    return values.reshape(values.shape[-2:])
