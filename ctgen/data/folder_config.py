"""Config of the ``folder`` data set."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, field_validator

from ctgen.atomic import fingerprint
from ctgen.config import ComponentConfig

AbsolutePath = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]
REPORTS_NAME = "reports.csv"
MASKS_MARK = "organs.json"
"""In a folder that holds masks, and no scans."""


class FolderConfig(ComponentConfig):
    """``root`` is searched for scans at any depth; ``reports`` defaults to root/reports.csv where that exists.

    ``default_report``: findings for scans without a report (otherwise they have none). ``valid``: ids of the validation split;
    without it ``valid_fraction`` of the scans by a hash of the id, or of the patient. ``patient_pattern``: a regular expression
    whose first group (or whole match) in the id names the patient; scans of one patient stay in one split.
    """

    root: AbsolutePath
    reports: AbsolutePath | None = None
    default_report: str | None = None
    valid_fraction: float = Field(default=0.25, ge=0.0, lt=1.0)
    valid: tuple[str, ...] = ()
    patient_pattern: str | None = None
    masks: str | None = None
    """Folder below root with masks of findings: MASKS/ID/FINDING.nii.gz on the grid of scan ID, 0 outside; FINDING is one of
    CT-RATE's labels, also in snake case (``lung_nodule``)."""

    @field_validator("patient_pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"not a regular expression: {error}") from error
        return pattern

    @field_validator("masks")
    @classmethod
    def _below(cls, masks: str | None) -> str | None:
        if masks is not None and (Path(masks).is_absolute() or ".." in Path(masks).parts or not Path(masks).parts):
            raise ValueError(f"{masks!r} is not the name of a folder below root")
        return masks

    def masks_folder(self) -> Path | None:
        return None if self.masks is None else self.root / self.masks

    def reports_file(self) -> Path | None:
        """The table of reports that will be read, if any."""
        if self.reports is not None:
            return self.reports
        default = self.root / REPORTS_NAME
        return default if default.is_file() else None

    def files(self) -> list[Path]:
        """Volume files under root in the order of their relative paths.

        Hidden files and folders are passed over, and folders of masks: ``masks``, and those that hold MASKS_MARK.
        """
        from ctgen.volume.header import is_volume_file

        found = (path for path in self.root.rglob("*") if is_volume_file(path))
        shown = (path for path in found if not any(part.startswith(".") for part in path.relative_to(self.root).parts))
        passed = {self.root: False, self.masks_folder(): True}

        def pass_over(folder: Path) -> bool:
            if folder not in passed:
                passed[folder] = pass_over(folder.parent) or (folder / MASKS_MARK).is_file()
            return passed[folder]

        shown = (path for path in shown if not pass_over(path.parent))
        return sorted(shown, key=lambda path: path.relative_to(self.root).as_posix())

    def identity(self) -> dict[str, Any]:
        """Fields, and what the folder holds (names, sizes, times of change): new scans are another data set. Masks that are not
        asked for leave no trace."""
        masks = self.masks_folder()
        listed = [*self.files(), *(path for path in [self.reports_file()] if path is not None and path.is_file())]
        listed += sorted(path for path in masks.rglob("*") if path.is_file()) if masks else []
        states = [(str(path), path.stat()) for path in listed]
        fields = super().identity()
        if self.masks is None:
            del fields["masks"]
        return {
            **fields,
            "contents": fingerprint([[name, state.st_size, state.st_mtime_ns] for name, state in states]),
        }
