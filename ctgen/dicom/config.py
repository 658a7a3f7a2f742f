"""Which DICOM series are used, and how far one may be from an even grid of slices."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from ctgen.config import ComponentConfig


class DicomReading(ComponentConfig):
    """Shared by the data set, the import and the inspection; every default refuses rather than guesses."""

    gaps: Literal["refuse", "resample"] = Field(
        default="refuse",
        description="A series with missing slices or uneven gaps: refuse, or interpolate linearly onto an even grid.",
    )
    max_gap_mm: float = Field(default=10.0, gt=0, description="gaps: resample never interpolates across more than this.")
    tilt: Literal["keep", "resample", "refuse"] = Field(
        default="keep",
        description="Gantry tilt: keep (an affine with shear; voxels as they are), resample each slice in plane so that the "
        "axes are at right angles, or refuse.",
    )
    tilt_tolerance_degrees: float = Field(default=0.1, ge=0, description="Less than this between axis and normal is no tilt.")
    position_tolerance_mm: float = Field(
        default=0.1, gt=0, description="How far a slice may lie from the even grid; scanners round positions."
    )
    orientation_tolerance_degrees: float = Field(default=0.05, gt=0, description="Within one stack of slices.")
    duplicates: Literal["refuse", "first"] = Field(
        default="refuse",
        description="Different images at one position: refuse, or take the lowest instance number. Equal ones are merged.",
    )
    missing_rescale: Literal["refuse", "identity"] = Field(
        default="refuse", description="No RescaleSlope and Intercept: refuse, or take the stored values as HU."
    )
    synthetic: Literal["leave-out", "take"] = Field(
        default="leave-out",
        description="Series labelled synthetic (SyntheticData YES, or ImageType SYNTHETIC), such as ctgen's own exports.",
    )
    padding_hu: float = Field(default=-1024.0, description="HU written where a file says PixelPaddingValue.")
    min_slices: int = Field(default=10, ge=2, description="Series with fewer slices are left out.")
    max_spacing_mm: float | None = Field(default=None, gt=0, description="Series with thicker slice distance are left out.")
    series: str | None = Field(default=None, description="Regular expression that the series description must contain.")
    exclude_series: str | None = Field(default=None, description="Regular expression that it must not contain.")
    kernels: tuple[str, ...] = Field(default=(), description="Convolution kernels to take, such as [B30f, Br38]; empty: all.")
    contrast: Literal["any", "with", "without"] = Field(
        default="any", description="By ContrastBolusAgent, as far as it was filled in."
    )
    planes: tuple[Literal["axial", "coronal", "sagittal"], ...] = Field(
        default=("axial",), min_length=1, description="Planes of the slices to take."
    )
    exclude_types: tuple[str, ...] = Field(
        default=("LOCALIZER", "MIP", "MINIP", "PROJECTION IMAGE", "VRT", "RADIAL", "SCREEN SAVE", "POSDISP", "DOSE_INFO"),
        description="Values of ImageType that are no slices of a volume.",
    )

    @field_validator("series", "exclude_series")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"not a regular expression: {error}") from error
        return pattern
