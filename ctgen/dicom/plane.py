"""One image of one file, as its header tells it; no pixel is read."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

CT = ("1.2.840.10008.5.1.4.1.1.2",)
ENHANCED = ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
DICOMDIR = "1.2.840.10008.1.3.10"
FIRST_ELEMENTS = (0x00, 0x01, 0x05, 0x08, 0x12, 0x14, 0x16)
"""Of group 8, as the first element of a data set without a preamble."""
NO_HU = ("Z_EFF", "ED", "EDW", "HU_MOD", "PCT", "MGML", "OD")
"""Rescale types whose numbers are no HU (PS3.3 C.11.1.1.2)."""
TAGS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "FrameOfReferenceUID",
    "PatientID",
    "IssuerOfPatientID",
    "AccessionNumber",
    "Modality",
    "ImageType",
    "SeriesDescription",
    "SeriesNumber",
    "ConvolutionKernel",
    "ContrastBolusAgent",
    "Manufacturer",
    "KVP",
    "AcquisitionNumber",
    "TemporalPositionIdentifier",
    "InstanceNumber",
    "Rows",
    "Columns",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "PixelSpacing",
    "SliceThickness",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "SamplesPerPixel",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "PixelRepresentation",
    "LossyImageCompression",
    "BurnedInAnnotation",
    "SyntheticData",
    "NumberOfFrames",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "SpecificCharacterSet",
)


class Plane(NamedTuple):
    """mm, LPS. ``file`` is relative to the tree's root; ``frame`` is -1 for a file with one image. Empty: not stated."""

    file: str
    frame: int
    sop: str
    series: str
    study: str
    patient: str
    accession: str
    reference: str
    image_type: tuple[str, ...]
    description: str
    number: str
    kernel: str
    contrast: str
    manufacturer: str
    kvp: str
    acquisition: str
    temporal: str
    instance: int
    rows: int
    columns: int
    orientation: tuple[float, ...]
    position: tuple[float, ...]
    spacing: tuple[float, ...]
    """Between rows, between columns."""
    thickness: float
    slope: float | None
    intercept: float | None
    rescale_type: str
    padding: int | None
    padding_limit: int | None
    syntax: str
    lossy: bool
    burned_in: bool
    synthetic: bool


class Rejected(NamedTuple):
    """A file that is no CT slice, and why. ``damaged``: it should have been one."""

    file: str
    reason: str
    series: str = ""
    study: str = ""
    patient: str = ""
    description: str = ""
    damaged: bool = False


def read_planes(path: Path, name: str) -> list[Plane] | Rejected:
    """The images of one file, several if it is multi-frame. Never raises for what a file holds. ``name`` becomes ``file``."""
    from pydicom.errors import InvalidDicomError

    try:
        with path.open("rb") as stream:
            start = stream.read(132)
    except OSError as error:
        return Rejected(name, f"cannot be read: {error.strerror or error}", damaged=True)
    if not is_dicom_start(start):
        return Rejected(name, "empty file" if not start else "not DICOM", damaged=not start)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of every value that bends the standard; what matters is checked here
        try:
            header = read_header(path)
            return _planes(header, name)
        except InvalidDicomError:
            return Rejected(name, "not DICOM")
        except Exception as error:  # a damaged header raises nearly anything
            # its text may quote a value, and values may be names
            return Rejected(name, f"damaged header ({type(error).__name__})", damaged=True)


def is_dicom_start(start: bytes) -> bool:
    """By the first 132 bytes: part 10's magic, or a bare data set that begins in group 8 (old exports have no preamble)."""
    bare = len(start) > 8 and start[:2] == b"\x08\x00" and start[2] in FIRST_ELEMENTS and start[3] == 0
    return start[128:132] == b"DICM" or bare or start[:4] == b"\x02\x00\x00\x00"


def read_header(path: Path) -> Any:
    """A pydicom data set of TAGS without pixels."""
    import pydicom

    return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(TAGS), force=True)


def _planes(header: Any, name: str) -> list[Plane] | Rejected:
    meta = header.file_meta
    sop_class = _text(header, "SOPClassUID") or str(meta.get("MediaStorageSOPClassUID", "") or "")
    modality = _text(header, "Modality")
    series, study = _text(header, "SeriesInstanceUID"), _text(header, "StudyInstanceUID")
    patient, description = _text(header, "PatientID"), _text(header, "SeriesDescription")
    if patient and (issuer := _text(header, "IssuerOfPatientID")):
        patient = f"{patient}@{issuer}"

    def reject(reason: str, *, damaged: bool = False) -> Rejected:
        return Rejected(name, reason, series, study, patient, description, damaged)

    if sop_class == DICOMDIR:
        return reject("DICOMDIR")
    if not sop_class and not modality:
        return reject("not DICOM")
    if sop_class and sop_class not in (*CT, *ENHANCED):
        from pydicom.uid import UID

        return reject(f"{UID(sop_class).name} ({modality or 'no modality'})")
    if modality != "CT":
        return reject(f"modality {modality or 'not stated'}")
    if not header.get("Rows") or not header.get("Columns"):
        return reject("a CT header without an image", damaged=True)
    if int(header.get("SamplesPerPixel", 1) or 1) != 1:
        return reject("colour image")
    common = {
        "file": name,
        "series": sys.intern(series),
        "study": sys.intern(study),
        "patient": sys.intern(patient),
        "accession": sys.intern(_text(header, "AccessionNumber")),
        "reference": sys.intern(_text(header, "FrameOfReferenceUID")),
        "description": sys.intern(description),
        "number": sys.intern(_text(header, "SeriesNumber")),
        "manufacturer": sys.intern(_text(header, "Manufacturer")),
        "rows": int(header.Rows),
        "columns": int(header.Columns),
        "syntax": sys.intern(str(meta.get("TransferSyntaxUID", "1.2.840.10008.1.2"))),
        "lossy": _text(header, "LossyImageCompression") == "01",
        "burned_in": _text(header, "BurnedInAnnotation") == "YES",
        **_padding(header),
    }
    sop = _text(header, "SOPInstanceUID") or str(meta.get("MediaStorageSOPInstanceUID", "") or "")
    if sop_class in ENHANCED:
        return _frames(header, common, sop)
    if int(header.get("NumberOfFrames", 1) or 1) > 1:
        return reject(f"{int(header.NumberOfFrames)} frames in a single-frame CT image", damaged=True)
    return [_plane(header, common, sop, -1, [header])]


def _frames(header: Any, common: dict[str, Any], sop: str) -> list[Plane]:
    """Enhanced CT: a frame's attributes are in its functional groups, in the shared ones, or at the top (PS3.3 C.7.6.16)."""
    shared = list(_groups(header.get("SharedFunctionalGroupsSequence")))
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or []
    return [_plane(header, common, sop, index, [*_groups([item]), *shared, header]) for index, item in enumerate(per_frame)]


def _groups(items: Any) -> list[Any]:
    """The items of all functional groups of the first of ``items``."""
    if not items:
        return []
    return [element.value[0] for element in items[0] if element.VR == "SQ" and element.value]


def _plane(header: Any, common: dict[str, Any], sop: str, frame: int, places: list[Any]) -> Plane:
    def found(keyword: str) -> Any:
        return next((place.get(keyword) for place in places if place.get(keyword) not in (None, "")), None)

    def number(keyword: str) -> float | None:
        value = found(keyword)
        return None if value is None else float(value)

    kernel = found("ConvolutionKernel")
    kinds = found("FrameType") or found("ImageType") or ()
    instance = found("InStackPositionNumber") if frame >= 0 else found("InstanceNumber")
    image_type = tuple(sys.intern(str(kind).upper()) for kind in ([kinds] if isinstance(kinds, str) else kinds))
    return Plane(
        sop=sop,
        frame=frame,
        image_type=image_type,
        synthetic=_text(header, "SyntheticData") == "YES" or "SYNTHETIC" in image_type,
        kernel=sys.intern(_joined(kernel)),
        contrast=sys.intern(_joined(found("ContrastBolusAgent"))),
        kvp=sys.intern(_joined(found("KVP"))),
        acquisition=sys.intern(_joined(found("FrameAcquisitionNumber") or found("AcquisitionNumber"))),
        temporal=sys.intern(_joined(found("TemporalPositionIndex") or found("TemporalPositionIdentifier"))),
        instance=int(instance) if instance is not None else max(frame, 0),
        orientation=_numbers(found("ImageOrientationPatient")),
        position=_numbers(found("ImagePositionPatient")),
        spacing=_numbers(found("PixelSpacing")),
        thickness=number("SliceThickness") or 0.0,
        slope=number("RescaleSlope"),
        intercept=number("RescaleIntercept"),
        rescale_type=sys.intern(_joined(found("RescaleType"))),
        **common,
    )


def _padding(header: Any) -> dict[str, int | None]:
    found: dict[str, int | None] = {}
    signed = header.get("PixelRepresentation") == 1
    for name, keyword in (("padding", "PixelPaddingValue"), ("padding_limit", "PixelPaddingRangeLimit")):
        value = header.get(keyword)
        found[name] = None if value in (None, "") else int(value)
        # some scanners state the signed value in an unsigned field
        if signed and found[name] is not None and found[name] > 32767:  # type: ignore[operator]
            found[name] -= 65536  # type: ignore[operator]
    return found


def _text(header: Any, keyword: str) -> str:
    return _joined(header.get(keyword)).strip()


def _joined(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    try:
        return "\\".join(str(part) for part in value).strip()
    except TypeError:
        return str(value)


def _numbers(value: Any) -> tuple[float, ...]:
    if value is None:
        return ()
    try:
        return tuple(float(part) for part in value)
    except TypeError:
        return (float(value),)
