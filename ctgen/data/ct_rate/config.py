"""Config of the ``ct-rate`` data set."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from ctgen.atomic import fingerprint
from ctgen.config import ComponentConfig
from ctgen.data.folder_config import AbsolutePath
from ctgen.data.labels import LABELS
from ctgen.errors import did_you_mean
from ctgen.interfaces import Split

Range = tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]


class CtRateConfig(ComponentConfig):
    """A copy of CT-RATE, whole or in part. Every volume that is left out is listed with its reason."""

    root: AbsolutePath = Field(description="CT-RATE's top folder, which holds dataset/, or that folder itself")
    splits: tuple[Split, ...] = Field(("train", "valid"), min_length=1, description="folders of CT-RATE to read")
    volumes: Literal["auto", "fixed", "raw"] = Field(
        "auto", description='"fixed": *_fixed folders; "raw": the others; "auto": both, fixed where a volume is in both'
    )
    intensity: Literal["auto", "hu", "csv-rescale"] = Field(
        "auto",
        description='"hu": as stored; "csv-rescale": slope and intercept of the metadata table; "auto": by evidence, per file',
    )
    geometry: Literal["auto", "file", "csv"] = Field(
        "auto",
        description='spacing, origin and direction; "auto": of the file, but of the metadata table in raw folders, where those '
        "of the file mean nothing",
    )
    floor_hu: float = Field(-1024.0, ge=-2048, le=-900, description="HU of padding (-2048, -3024, -8192): what is below is air")
    reconstruction: Literal["first", "all", "smallest-spacing", "kernel"] = Field(
        "first", description="which reconstruction of a scan; smallest-spacing: along D; kernel: the first that prefer names"
    )
    prefer: tuple[str, ...] = Field((), description="kernels, best first, such as B30f or Br*; for reconstruction: kernel")
    kernels: tuple[str, ...] = Field((), description="only reconstructions with these kernels; * stands for anything")
    slice_spacing_mm: Range | None = Field(None, description="only volumes whose slices are this far apart: from, to")
    pixel_spacing_mm: Range | None = Field(None, description="only volumes with pixels of this size: from, to")
    require_report: bool = Field(True, description="scans without findings and impressions are left out")
    labels_required: tuple[str, ...] = Field((), description="only scans that have all of these labels")
    labels_excluded: tuple[str, ...] = Field((), description="only scans that have none of these labels")
    no_chest: AbsolutePath | None = Field(
        None, description="list of head and neck scans; default: metadata/no_chest_*.txt of the copy, where they are"
    )
    exclude: tuple[AbsolutePath, ...] = Field(
        (), description="more lists to leave out, such as exclude.txt of `ctgen data check`: volumes, scans, patients or paths"
    )
    on_both_sides: Literal["error", "drop-from-train"] = Field(
        "error", description="what to do when a patient is in train and in valid"
    )
    valid_fraction: float = Field(
        0.05, ge=0.0, lt=1.0, description="share of the patients for validation, where the copy has no valid folder"
    )

    @field_validator("labels_required", "labels_excluded")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in LABELS:
                raise ValueError(f"no label {name!r}; {did_you_mean(name, LABELS) or 'labels: ' + ', '.join(LABELS)}")
        return names

    @field_validator("slice_spacing_mm", "pixel_spacing_mm")
    @classmethod
    def _ordered(cls, value: Range | None) -> Range | None:
        if value is not None and value[0] > value[1]:
            raise ValueError(f"the lower end {value[0]:g} is above the upper end {value[1]:g}")
        return value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.reconstruction == "kernel") != bool(self.prefer):
            raise ValueError("reconstruction: kernel and prefer go together; write prefer: [B30f, I31f] or another choice")
        if both := set(self.labels_required) & set(self.labels_excluded):
            raise ValueError(f"both required and excluded: {', '.join(sorted(both))}")
        return self

    def lists(self) -> list[tuple[str, AbsolutePath]]:
        """(what it is, file) of every list of volumes to leave out."""
        from ctgen.data.ct_rate.layout import NO_CHEST, locate

        found = [("no chest", self.no_chest)] if self.no_chest else []
        if self.no_chest is None and self.root.is_dir():
            base = locate(self.root)
            found = [("no chest", base / name) for name in NO_CHEST.values() if (base / name).is_file()]
        return [*found, *(("excluded", path) for path in self.exclude)]

    def identity(self) -> dict[str, Any]:
        """Fields, and what the copy holds (names, sizes, times of change of volumes, tables and lists)."""
        from ctgen.data.ct_rate.layout import FOLDERS, TABLES, files_of, locate

        if not any((base / name).is_dir() for base in (self.root, self.root / "dataset") for name in FOLDERS):
            return {**super().identity(), "contents": fingerprint([])}
        base = locate(self.root)
        volumes = (base / path for path, found in files_of(base) if found is not None)
        tables = (base / name for kind in TABLES.values() for name in kind.values())
        listed = [*volumes, *(path for path in tables if path.is_file())]
        listed += [path for _, path in self.lists() if path.is_file()]
        states = [(path.as_posix(), path.stat()) for path in listed if path.exists()]
        return {
            **super().identity(),
            "contents": fingerprint([[name, state.st_size, state.st_mtime_ns] for name, state in states]),
        }
