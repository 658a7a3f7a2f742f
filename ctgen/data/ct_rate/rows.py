"""Rows of CT-RATE's tables for a simulated volume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ctgen.atomic import stable_hash
from ctgen.data.ct_rate.layout import METADATA_COLUMNS, SUFFIX
from ctgen.data.labels import LABELS

NOT_GIVEN = "Not given."
KERNELS = {
    "Philips": {"soft": "B", "standard": "C", "sharp": "YA"},
    "Siemens Healthineers": {"soft": "['Br40d', '3']", "standard": "['Br49d', '3']", "sharp": "['Bl57d', '3']"},
}


def report_row(name: str, report: Mapping[str, str]) -> list[str]:
    """In the order of REPORT_COLUMNS; a missing part is "Not given."."""
    parts = (report.get(part) or NOT_GIVEN for part in ("clinical_information", "technique", "findings", "impressions"))
    return [name + SUFFIX, *parts]


def label_row(name: str, labels: Mapping[str, int]) -> list[str]:
    return [name + SUFFIX, *(str(int(labels[label])) for label in LABELS)]


def metadata_row(name: str, seed: int, facts: Mapping[str, Any], volume: Mapping[str, Any], intercept: int) -> list[str]:
    """``facts``: the simulated case's meta; ``volume``: shape, spacing_mm (D, H, W) and origin_mm of the file.

    Columns that the simulator knows nothing of are empty, and more of them for one maker than for the other, as in CT-RATE.
    """
    draw = stable_hash("ct-rate scanner", seed, facts["index"])
    maker, model = (("Philips", "iCT 256"), ("Siemens Healthineers", "SOMATOM go.Top"))[draw % 2]
    kernel = facts["scanner"]["kernel"] if volume["reconstruction"] == 1 else "soft"
    d, h, w = volume["shape"]
    z, y, x = volume["spacing_mm"]
    known = {
        "VolumeName": name + SUFFIX,
        "Manufacturer": maker,
        "SeriesDescription": "HRCT" if volume["reconstruction"] == 1 else "Thorax",
        "ManufacturerModelName": model,
        "PatientSex": facts["patient"]["sex"][0].upper(),
        "PatientAge": f"{facts['patient']['age']:03d}Y",
        "ReconstructionDiameter": f"{w * x:g}",
        "GantryDetectorTilt": "0",
        "RotationDirection": "CW",
        "ConvolutionKernel": KERNELS[maker][kernel],
        "PatientPosition": "HFS",
        "ImagePositionPatient": str([round(value, 4) for value in volume["origin_mm"]]),
        "ImageOrientationPatient": "[1, 0, 0, 0, 1, 0]",
        "SliceLocation": f"{volume['origin_mm'][2]:.4g}",
        "SamplesPerPixel": "1",
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": str(h),
        "Columns": str(w),
        "XYSpacing": str([x, y]),
        "RescaleIntercept": str(intercept),
        "RescaleSlope": "1",
        "NumberofSlices": str(d),
        "ZSpacing": f"{z:g}",
        "StudyDate": str(20180101 + draw % 28),
    }
    if maker != "Philips":
        known |= {"DistanceSourceToDetector": "1085.6", "SpiralPitchFactor": "1.2", "RescaleType": "HU"}
    return [known.get(column, "") for column in METADATA_COLUMNS]
