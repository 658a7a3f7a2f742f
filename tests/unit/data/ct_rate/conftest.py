"""Copies of CT-RATE: tiny hand-made ones, and simulated ones with and without their traps."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctgen.data.atlas.config import AtlasThoraxConfig
from ctgen.data.ct_rate.layout import COLUMNS, LABEL_COLUMNS, TABLES, parse_name
from ctgen.data.ct_rate.simulate import simulate_ct_rate
from ctgen.testing import phantom
from ctgen.volume import Volume
from ctgen.volume.io import write_volume

SCANS = 48
CONFIG = AtlasThoraxConfig(size=(24, 32, 32), spacing_mm=(12.0, 11.0, 11.0))


class Copy:
    """Write volumes and rows one by one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.base = root / "dataset"
        self.rows: dict[tuple[str, str], list[list[str]]] = {}

    def volume(
        self, name: str, *, side: str = "", fixed: bool = True, rows: bool = True, hu: Any = None, **metadata: object
    ) -> Path:
        """A phantom (or ``hu``) with rows in the tables of its side; ``metadata`` changes columns of its row."""
        parsed = parse_name(name)
        assert parsed is not None
        side = side or parsed.split
        made = phantom((20, 28, 28), (10.0, 10.0, 10.0), seed=sum(name.encode()) % 97)
        stored = made if hu is None else Volume(hu, made.affine)
        path = self.base / f"{side}{'_fixed' if fixed else ''}" / parsed.folder / f"{name}.nii.gz"
        write_volume(stored, path)
        if rows:
            self.row("reports", side, name, Findings_EN=f"Findings of {parsed.scan}.", Impressions_EN="None.")
            self.row("labels", side, name, **dict.fromkeys(LABEL_COLUMNS[1:], "0"))
            usual = {
                "RescaleSlope": 1, "RescaleIntercept": -1024, "XYSpacing": "[10.0, 10.0]", "ZSpacing": 10.0,
                "ImagePositionPatient": "[-1, -2, -3]", "ImageOrientationPatient": "[1, 0, 0, 0, 1, 0]",
                "ConvolutionKernel": "B30f", "PatientSex": "F", "PatientAge": "036Y",
                "NumberofSlices": stored.shape[0], "Rows": stored.shape[1], "Columns": stored.shape[2],
            }  # fmt: skip
            self.row("metadata", side, name, **{**usual, **metadata})
        return path

    def row(self, kind: str, side: str, name: str, **cells: object) -> None:
        columns = COLUMNS[kind]
        row = [f"{name}.nii.gz", *(str(cells.get(column, "Not given." if kind == "reports" else "")) for column in columns[1:])]
        self.rows.setdefault((kind, side), []).append(row)

    def write(self, headers: Mapping[str, Iterable[str]] | None = None) -> Path:
        """The tables; returns the root."""
        for (kind, side), rows in self.rows.items():
            path = self.base / TABLES[kind][side]  # type: ignore[index]
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w", encoding="utf-8", newline="") as stream:
                csv.writer(stream).writerows([list((headers or {}).get(kind, COLUMNS[kind])), *rows])
        return self.root


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path / "CT-RATE")


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``simulated("fixed", damage=True)``: a simulated copy, made once, to be read only."""
    made: dict[tuple[str, bool], Path] = {}

    def get(kind: str, *, damage: bool) -> Path:
        if (kind, damage) not in made:
            out = tmp_path_factory.mktemp("ct-rate") / f"{kind}-{damage}"
            made[kind, damage] = simulate_ct_rate(out, SCANS, 1, kind=kind, damage=damage, config=CONFIG)  # type: ignore[arg-type]
        return made[kind, damage]

    return get


@pytest.fixture(scope="session")
def chest() -> np.ndarray:
    """(60, 64, 64) int16 HU: body, lungs, spine, air around."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64]
    plane = np.full((64, 64), -1000.0)
    plane[(y - 32) ** 2 / 20**2 + (x - 32) ** 2 / 28**2 < 1] = 40
    for centre in (20, 44):
        plane[(y - 32) ** 2 + (x - centre) ** 2 < 9**2] = -850
    plane[46:50, 30:34] = 700
    return (plane + rng.normal(0, 20, (60, 64, 64))).clip(-1024).astype(np.int16)
