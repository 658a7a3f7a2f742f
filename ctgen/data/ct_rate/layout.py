"""How CT-RATE lies on disk: names, folders, tables and their columns. Imports nothing heavy.

    dataset/{train,valid}[_fixed]/train_1/train_1_a/train_1_a_1.nii.gz     split_patient_scan_reconstruction
    dataset/radiology_text_reports/{train,validation}_reports.csv
    dataset/multi_abnormality_labels/{train,valid}_predicted_labels.csv
    dataset/metadata/{train,validation}_metadata.csv, no_chest_{train,valid}.txt

Raw folders hold stored values with a geometry that means nothing: HU, spacing, origin and direction are in the metadata
table. ``*_fixed`` folders hold HU and a true geometry.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ctgen.data.labels import LABELS
from ctgen.errors import DataError, MissingFileError
from ctgen.interfaces import Split

SPLITS: tuple[Split, ...] = ("train", "valid")
FOLDERS: dict[str, tuple[Split, bool]] = {
    "train_fixed": ("train", True),
    "valid_fixed": ("valid", True),
    "train": ("train", False),
    "valid": ("valid", False),
}
"""Folder -> its split, and whether its volumes are the corrected ones."""
_LONG: dict[Split, str] = {"train": "train", "valid": "validation"}
TABLES: dict[str, dict[Split, str]] = {
    "reports": {split: f"radiology_text_reports/{_LONG[split]}_reports.csv" for split in SPLITS},
    "labels": {split: f"multi_abnormality_labels/{split}_predicted_labels.csv" for split in SPLITS},
    "metadata": {split: f"metadata/{_LONG[split]}_metadata.csv" for split in SPLITS},
}
NO_CHEST: dict[Split, str] = {split: f"metadata/no_chest_{split}.txt" for split in SPLITS}
ID = "VolumeName"
REPORT_PARTS = {
    "findings": "Findings_EN",
    "impressions": "Impressions_EN",
    "clinical_information": "ClinicalInformation_EN",
    "technique": "Technique_EN",
}
REPORT_COLUMNS = (ID, "ClinicalInformation_EN", "Technique_EN", "Findings_EN", "Impressions_EN")
LABEL_COLUMNS = (ID, *LABELS)
METADATA_COLUMNS = tuple(
    " ".join(
        (
            "VolumeName Manufacturer SeriesDescription ManufacturerModelName PatientSex PatientAge ReconstructionDiameter",
            "DistanceSourceToDetector DistanceSourceToPatient GantryDetectorTilt TableHeight RotationDirection ExposureTime",
            "XRayTubeCurrent Exposure FilterType GeneratorPower FocalSpots ConvolutionKernel PatientPosition RevolutionTime",
            "SingleCollimationWidth TotalCollimationWidth TableSpeed TableFeedPerRotation SpiralPitchFactor",
            "DataCollectionCenterPatient ReconstructionTargetCenterPatient ExposureModulationType CTDIvol",
            "ImagePositionPatient ImageOrientationPatient SliceLocation SamplesPerPixel PhotometricInterpretation Rows",
            "Columns XYSpacing RescaleIntercept RescaleSlope RescaleType NumberofSlices ZSpacing StudyDate",
        )
    ).split()
)
COLUMNS = {"reports": REPORT_COLUMNS, "labels": LABEL_COLUMNS, "metadata": METADATA_COLUMNS}
SUFFIX = ".nii.gz"
_NAME = re.compile(r"((train|valid)_[1-9][0-9]*)_([a-z]+)_([1-9][0-9]*)", re.ASCII)


class Name(NamedTuple):
    """A volume's name in its parts: "train_1_a_2" is reconstruction 2 of scan "train_1_a" of patient "train_1"."""

    text: str
    split: Split
    patient: str
    scan: str
    reconstruction: int

    @property
    def folder(self) -> str:
        """Where it belongs below its split's folder."""
        return f"{self.patient}/{self.scan}"


class Found(NamedTuple):
    """A volume's file; ``path`` is relative to the data set's folder, ``split`` is the side it lies on."""

    name: Name
    path: str
    split: Split
    fixed: bool


def parse_name(text: str) -> Name | None:
    """From "train_1_a_1" or "train_1_a_1.nii.gz"; None if it is no such name."""
    stem = text.strip().removesuffix(SUFFIX)
    match = _NAME.fullmatch(stem)
    if match is None:
        return None
    split: Split = "train" if match.group(2) == "train" else "valid"
    return Name(stem, split, match.group(1), f"{match.group(1)}_{match.group(3)}", int(match.group(4)))


def locate(root: Path) -> Path:
    """The folder that holds train_fixed, valid_fixed, ...: ``root`` or its ``dataset``.

    Raises MissingFileError, DataError if there is no CT-RATE layout.
    """
    if not root.is_dir():
        raise MissingFileError(
            f"CT-RATE: no folder at {root}", hint="give its top folder, which holds dataset/, or that folder"
        )
    for base in (root / "dataset", root):
        if any((base / folder).is_dir() for folder in FOLDERS):
            return base
    raise DataError(
        f"{root} is no copy of CT-RATE: there is none of {', '.join(FOLDERS)} in it or in its dataset/",
        hint="for any other folder of scans use the data set 'folder', and look at it with: ctgen data inspect",
    )


def files_of(base: Path) -> Iterator[tuple[str, Found | None]]:
    """Every file below the split folders: its path relative to ``base``, and the volume it is, if its name is a volume's.

    Names are read, never contents; folders in order of their names. Raises DataError for a folder that cannot be listed.
    """
    for folder, (split, fixed) in FOLDERS.items():
        if not (base / folder).is_dir():
            continue
        for where, folders, names in os.walk(base / folder, followlinks=True, onerror=_cannot_list):
            folders.sort(key=_natural)
            relative = Path(where).relative_to(base).as_posix()
            for text in sorted(names, key=_natural):
                path = f"{relative}/{text}"
                name = parse_name(text) if text.endswith(SUFFIX) else None
                yield path, Found(name, path, split, fixed) if name else None


def _cannot_list(error: OSError) -> None:
    raise DataError(f"cannot list {error.filename}: {error.strerror}")


def _natural(text: str) -> list[tuple[int, str]]:
    """train_2 before train_10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]
