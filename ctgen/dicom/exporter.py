"""The ``dicom`` exporter: a folder with one file per slice."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from ctgen.dicom.dataset import NotStorable, series_datasets
from ctgen.dicom.export_config import FOLDER_SUFFIX, DicomExporterConfig
from ctgen.dicom.plane import is_dicom_start
from ctgen.errors import VolumeError
from ctgen.volume.header import volume_suffix
from ctgen.volume.volume import Volume


class DicomExporter:
    """A CT Image Storage series in a folder NAME.dicom/, labelled synthetic in every image.

    ``Volume.meta`` may hold id, report, seed and made_by; without them the id is the folder's name.
    """

    suffix = FOLDER_SUFFIX

    def __init__(self, config: DicomExporterConfig) -> None:
        self.config = config

    def write(self, volume: Volume, path: Path) -> Path:
        """Write the folder and rename it into place; a DICOM series that is there is replaced, anything else is an error.

        Raises VolumeError: another format's suffix, voxels that are not finite or do not fit, a folder that is in the way.
        """
        path = Path(path)
        if not path.name.endswith(FOLDER_SUFFIX):
            if found := volume_suffix(path):
                raise VolumeError(path, f"this exporter writes a folder {FOLDER_SUFFIX}, not {found}")
            path = path.with_name(path.name + FOLDER_SUFFIX)
        if min(volume.shape) < 2:
            raise VolumeError(
                path, f"a volume of {' x '.join(map(str, volume.shape))} voxels (D, H, W) has no third axis to write"
            )
        if path.exists() and not _is_series(path):
            raise VolumeError(path, "exists and is no folder of DICOM files", hint="choose another name, or remove it")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".writing-", dir=path.parent) as temporary:
                self._write_files(volume, Path(temporary) / "new", path.name.removesuffix(FOLDER_SUFFIX))
                # a folder cannot be renamed over a full one: for a moment between the two there is none
                if path.exists():
                    path.replace(Path(temporary) / "old")
                (Path(temporary) / "new").replace(path)
        except NotStorable as error:
            raise VolumeError(path, str(error)) from error
        except OSError as error:
            raise VolumeError(path, f"cannot be written: {error.strerror or error}") from error
        return path

    def _write_files(self, volume: Volume, folder: Path, name: str) -> None:
        from pydicom import config, dcmwrite

        folder.mkdir()
        digits = max(4, len(str(max(volume.shape))))
        before = config.settings.writing_validation_mode
        config.settings.writing_validation_mode = config.RAISE
        try:
            for index, image in enumerate(series_datasets(volume, name, self.config)):
                with (folder / f"{index + 1:0{digits}}.dcm").open("wb") as stream:
                    dcmwrite(stream, image, enforce_file_format=True)
                    stream.flush()
                    os.fsync(stream.fileno())
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            config.settings.writing_validation_mode = before


def _is_series(path: Path) -> bool:
    """A folder with nothing but DICOM files."""
    if not path.is_dir():
        return False
    for file in path.iterdir():
        if not file.is_file():
            return False
        with file.open("rb") as stream:
            if not is_dicom_start(stream.read(132)):
                return False
    return True
