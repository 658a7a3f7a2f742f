"""A Volume as the data sets of a CT Image Storage series (PS3.3 A.3), labelled synthetic."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ctgen import __version__
from ctgen.atomic import fingerprint
from ctgen.dicom.export_config import DicomExporterConfig
from ctgen.dicom.uids import uid_of
from ctgen.volume.orient import to_canonical
from ctgen.volume.volume import Volume

if TYPE_CHECKING:
    from pydicom import Dataset

INT16 = np.iinfo(np.int16)
COMMENT_LIMIT = 10240
"""Characters of VR LT (PS3.5 6.2): ImageComments holds the report."""
CUT = " [... cut; the full report is in the JSON beside the series]"
SKEW_TOLERANCE = 1e-4


class NotStorable(Exception):
    """A volume that a CT image cannot hold; the text says why."""


@dataclass(frozen=True)
class Origin:
    """What a series says of where it comes from, out of ``Volume.meta``: id, report, seed, made_by (recipe and weights)."""

    id: str
    report: Mapping[str, str]
    seed: int | None
    made_by: Mapping[str, Any]

    @classmethod
    def of(cls, volume: Volume, name: str) -> Origin:
        """``name`` stands in for an id that the volume does not have."""
        meta = volume.meta
        return cls(str(meta.get("id", name)), meta.get("report") or {}, meta.get("seed"), meta.get("made_by") or {})

    @property
    def key(self) -> str:
        """The same for the same case of the same run."""
        return fingerprint([self.id, dict(self.report), self.seed, self.made_by])


def series_datasets(volume: Volume, name: str, config: DicomExporterConfig) -> Iterator[Dataset]:
    """One data set with file meta per axial slice, from inferior to superior. Raises NotStorable.

    UIDs: the study's from the case and its run, the series' from that and the voxels, so that the same run gives the same UIDs
    and no two different images share one.
    """
    canonical, _ = to_canonical(volume)
    stored = _stored(canonical.hu, config.hu_step)
    origin = Origin.of(volume, name)
    row, column, spacing = _plane(canonical.affine)
    normal = np.cross(row, column)
    step = canonical.affine[:3, 0]
    distance = float(step @ normal)
    content = hashlib.sha256(canonical.affine.tobytes())
    for plane in stored:
        content.update(np.ascontiguousarray(plane, "<i2").data)
    digest = content.hexdigest()
    study = uid_of(["study", origin.key], config.uid_root)
    series = uid_of(["series", origin.key, digest, str(config.hu_step)], config.uid_root)
    common = _common(origin, config) | {
        "StudyInstanceUID": study,
        "SeriesInstanceUID": series,
        "FrameOfReferenceUID": uid_of(["frame", series], config.uid_root),
        "Rows": stored.shape[1],
        "Columns": stored.shape[2],
        "PixelSpacing": [_decimal(value) for value in spacing],
        "ImageOrientationPatient": [_decimal(value) for value in (*row, *column)],
        "SliceThickness": _decimal(distance),
        "SpacingBetweenSlices": _decimal(distance),
        "RescaleSlope": _decimal(config.hu_step),
    }
    tilt = float(np.degrees(np.arccos(np.clip(distance / np.linalg.norm(step), -1.0, 1.0))))
    if tilt > 0.01:
        common["GantryDetectorTilt"] = _decimal(round(tilt, 6))
    for index, plane in enumerate(stored):
        position = canonical.affine[:3, 3] + index * step
        yield _image(common, index, position, plane, uid_of(["image", series, str(index)], config.uid_root))


def _stored(hu: NDArray[Any], step: float) -> NDArray[np.int16]:
    if not np.isfinite(hu).all():
        raise NotStorable(f"{int((~np.isfinite(hu)).sum())} of {hu.size} voxels are not finite")
    if step == 1.0 and hu.dtype == np.int16:
        return hu
    low, high = float(hu.min()), float(hu.max())
    if np.rint(low / step) < INT16.min or np.rint(high / step) > INT16.max:
        raise NotStorable(
            f"HU {low:g} to {high:g} do not fit into 16 bits at hu_step = {step:g}, "
            f"which holds {INT16.min * step:g} to {INT16.max * step:g}"
        )
    stored = np.empty(hu.shape, np.int16)
    for index, plane in enumerate(hu):  # not at once: float64 of a whole volume is four times what is written
        stored[index] = np.rint(plane.astype(np.float64) / step)
    return stored


def _plane(affine: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[float, float]]:
    """Unit vectors of a row and a column, and the spacing between rows and between columns."""
    between_rows, between_columns = (float(np.linalg.norm(affine[:3, axis])) for axis in (1, 2))
    row, column = affine[:3, 2] / between_columns, affine[:3, 1] / between_rows
    if abs(float(row @ column)) > SKEW_TOLERANCE:
        raise NotStorable(f"rows and columns are not at right angles (cosine {float(row @ column):.5f})")
    return row, column, (between_rows, between_columns)


def _common(origin: Origin, config: DicomExporterConfig) -> dict[str, Any]:
    """Attributes that all images share; modules as in PS3.3 table A.3-1."""
    comment = report_text(origin.report)
    recipe = str(origin.made_by.get("recipe", "")).strip()
    return {
        # SOP Common
        "SpecificCharacterSet": "ISO_IR 192",
        "SyntheticData": "YES",
        # Patient: there is none
        "PatientName": "SYNTHETIC^CTGEN",
        "PatientID": _short(f"CTGEN-{origin.id}", 64),
        "PatientBirthDate": "",
        "PatientSex": "",
        # General Study
        "StudyDate": config.study_date,
        "StudyTime": "",
        "ReferringPhysicianName": "",
        "StudyID": "1",
        "AccessionNumber": "",
        "StudyDescription": "SYNTHETIC CT",
        # General Series
        "Modality": "CT",
        "SeriesNumber": "1",
        "SeriesDescription": _short(f"SYNTHETIC ctgen {recipe}".strip(), 64),
        "BodyPartExamined": config.body_part,
        "PatientPosition": config.patient_position,
        # Frame of Reference
        "PositionReferenceIndicator": "",
        # General Equipment
        "Manufacturer": "ctgen (software)",
        "ManufacturerModelName": "ctgen",
        "SoftwareVersions": __version__,
        # General Image
        "ImageType": ["DERIVED", "SECONDARY", "AXIAL", "SYNTHETIC"],
        "DerivationDescription": _derivation(origin),
        "BurnedInAnnotation": "NO",
        "AcquisitionNumber": "",
        # CT Image
        "KVP": "",
        "RescaleIntercept": "0",
        "RescaleType": "HU",
        # not of the CT Image IOD, but of its enhanced sister: allowed in a Standard Extended SOP Class (PS3.2 3.11.3)
        "ContentQualification": "RESEARCH",
        # Image Pixel
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 1,
        # VOI LUT
        "WindowCenter": ["40", "-600"],
        "WindowWidth": ["400", "1500"],
        "WindowCenterWidthExplanation": ["SOFT TISSUE", "LUNG"],
        **({"ImageComments": comment} if comment else {}),
    }


def report_text(report: Mapping[str, str]) -> str:
    """The parts of a report under their names; at most COMMENT_LIMIT characters, what is cut is said."""
    parts = [f"{name.replace('_', ' ').upper()}: {text.strip()}" for name, text in report.items() if text and text.strip()]
    # LT takes CR LF and no other control characters than tab and form feed (PS3.5 6.1.3)
    text = "\r\n".join(parts).replace("\r\n", "\n").replace("\n", "\r\n")
    text = re.sub(r"[\x00-\x08\x0b\x0e-\x1f\x7f]", " ", text)
    return text if len(text) <= COMMENT_LIMIT else text[: COMMENT_LIMIT - len(CUT)] + CUT


def _derivation(origin: Origin) -> str:
    made = origin.made_by
    parts = [f"SYNTHETIC: made by ctgen {__version__}, not a scan of a person. Not for diagnosis."]
    if made.get("recipe"):
        parts.append(f"Recipe {made['recipe']} ({made.get('recipe_hash', '')}).")
    if origin.seed is not None:
        parts.append(f"Seed {origin.seed}.")
    for section, weights in (made.get("weights") or {}).items():
        parts.append(f"{section}: {weights.get('label', '')} {str(weights.get('sha256', ''))[:16]}".strip() + ".")
    return _short(" ".join(parts), 1024)


def _image(common: Mapping[str, Any], index: int, position: NDArray[np.float64], plane: NDArray[np.int16], uid: str) -> Dataset:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    image = Dataset()
    for keyword, value in common.items():
        setattr(image, keyword, value)
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, uid
    image.InstanceNumber = str(index + 1)
    image.ImagePositionPatient = [_decimal(value) for value in position]
    image.SliceLocation = _decimal(float(position[2]))
    image.PixelData = np.ascontiguousarray(plane, "<i2").tobytes()
    image["PixelData"].VR = "OW"
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID, image.file_meta.MediaStorageSOPInstanceUID = CTImageStorage, uid
    return image


def _decimal(value: float) -> str:
    """VR DS: the most digits that 16 characters hold."""
    from pydicom.valuerep import format_number_as_ds

    return str(format_number_as_ds(float(value) + 0.0))


def _short(text: str, limit: int) -> str:
    """At most ``limit`` characters, without backslash, which separates values; a hash keeps cut texts apart."""
    text = re.sub(r"[\x00-\x1f\x7f\\]", " ", text)
    return text if len(text) <= limit else f"{text[: limit - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
