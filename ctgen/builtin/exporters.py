"""Exporters: one file format each, written atomically with full geometry."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from ctgen.builtin.exporter_configs import ExporterConfig
from ctgen.errors import VolumeError
from ctgen.volume.header import volume_suffix
from ctgen.volume.io import write_volume
from ctgen.volume.volume import Volume


class FileExporter:
    """Writes volumes with one suffix. Values beyond int16 are clipped to it when HU are rounded."""

    suffix: ClassVar[str]

    def __init__(self, config: ExporterConfig) -> None:
        self.config = config

    def write(self, volume: Volume, path: Path) -> Path:
        """Write to ``path``, whose suffix is added if it has none; raises VolumeError if it has another format's."""
        path = Path(path)
        found = volume_suffix(path)
        if found is None:
            path = path.with_name(path.name + self.suffix)
        elif found != self.suffix:
            raise VolumeError(path, f"this exporter writes {self.suffix}, not {found}")
        if self.config.whole_hu and volume.hu.dtype.kind == "f" and np.isfinite(volume.hu).all():
            limits = np.iinfo(np.int16)
            hu = np.clip(np.rint(volume.hu), limits.min, limits.max).astype(np.int16)
            volume = Volume(hu, volume.affine, volume.meta)
        return write_volume(volume, path)


class NiftiExporter(FileExporter):
    suffix = ".nii.gz"


class MhaExporter(FileExporter):
    suffix = ".mha"


class NrrdExporter(FileExporter):
    suffix = ".nrrd"
