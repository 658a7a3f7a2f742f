"""Config of the ``dicom`` exporter."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from ctgen.config import ComponentConfig

FOLDER_SUFFIX = ".dicom"
"""Of the folder that a series is written to."""
LONGEST_ROOT = 24
"""Characters: what is left of a UID's 64 must hold a hash that does not collide."""


class DicomExporterConfig(ComponentConfig):
    """A series is always labelled synthetic: there is no field to turn that off."""

    hu_step: float = Field(
        default=1.0, gt=0, le=16, description="HU per stored unit (RescaleSlope): 1 rounds to whole HU, 0.0625 keeps fractions."
    )
    uid_root: str | None = Field(
        default=None, description="Prefix of new UIDs, an OID that you own. Without it UIDs are UUIDs under 2.25 (PS3.5 B.2)."
    )
    study_date: str = Field(
        default="", pattern=r"^(\d{8})?$", description="YYYYMMDD; empty: not stated (the standard allows it)."
    )
    body_part: str = Field(default="CHEST", pattern=r"^[A-Z0-9 _]{0,16}$", description="BodyPartExamined.")
    patient_position: Literal["HFS", "HFP", "FFS", "FFP", ""] = Field(default="HFS", description="PatientPosition.")

    @field_validator("uid_root")
    @classmethod
    def _is_oid(cls, root: str | None) -> str | None:
        if root is not None and (len(root) > LONGEST_ROOT or not re.fullmatch(r"[0-2](\.(0|[1-9]\d*))+", root)):
            raise ValueError(f"not an OID of at most {LONGEST_ROOT} characters, such as 1.2.826.0.1.3680043.10.1")
        return root
