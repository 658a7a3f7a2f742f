"""Config of the ``dicom`` data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from ctgen.atomic import fingerprint
from ctgen.data.folder_config import AbsolutePath
from ctgen.dicom.config import DicomReading

PRIVATE_SUFFIX = ".ctgen-private"


class DicomConfig(DicomReading):
    """One case per usable CT series below ``root``, however its folders are.

    The case id is a hash of the SeriesInstanceUID. ``private`` is a folder that only its owner may enter: mapping.csv there
    leads from case ids back to the patient, and an index of headers makes later starts quick. Nothing is written below root.
    """

    neutral: ClassVar[frozenset[str]] = frozenset({"private", "workers"})

    root: AbsolutePath = Field(description="A folder tree of DICOM files.")
    reports: AbsolutePath | None = Field(
        default=None,
        description="CSV with one of the columns SeriesInstanceUID, StudyInstanceUID, AccessionNumber, PatientID, id.",
    )
    default_report: str | None = Field(default=None, description="Findings for series without a report.")
    valid_fraction: float = Field(default=0.25, ge=0.0, lt=1.0, description="Share of patients in the validation split.")
    tilt: Literal["keep", "resample", "refuse"] = Field(
        default="resample",
        description="Gantry tilt: resample each slice in plane so that the axes are at right angles (a model that sees voxels "
        "alone would else learn sheared anatomy), keep (an affine with shear), or refuse.",
    )
    private: AbsolutePath | None = Field(
        default=None, description=f"Folder of mapping.csv and the index; default: beside root, named ROOT{PRIVATE_SUFFIX}."
    )
    workers: int = Field(default=1, ge=1, description="Processes that read headers.")

    def private_folder(self) -> Path:
        return self.private or private_beside(self.root)

    def identity(self) -> dict[str, Any]:
        """Fields, and what the tree holds (names, sizes, times of change): new files are another data set."""
        from ctgen.dicom.tree import listed

        files = [[name, state.st_size, state.st_mtime_ns] for name, state in listed(self.root)]
        if self.reports is not None and self.reports.is_file():
            state = self.reports.stat()
            files.append([str(self.reports), state.st_size, state.st_mtime_ns])
        return {**super().identity(), "contents": fingerprint(files)}


def private_beside(folder: Path) -> Path:
    """Where what identifies patients goes unless another place is named."""
    folder = folder.absolute()
    return folder.with_name(folder.name + PRIVATE_SUFFIX)
