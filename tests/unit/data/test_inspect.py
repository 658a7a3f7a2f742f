"""What ``ctgen data inspect`` finds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ctgen.data.inspect import Inspection, format_inspection, inspect_path, render
from ctgen.data.intensity import measure
from ctgen.errors import DataError, MissingFileError, VolumeError
from ctgen.volume import Volume
from ctgen.volume.io import write_volume


def chest() -> np.ndarray:
    """(60, 64, 64) HU: body, lungs, spine behind."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64]
    plane = np.full((64, 64), -1000.0)
    plane[(y - 32) ** 2 / 20**2 + (x - 32) ** 2 / 28**2 < 1] = 40
    for centre in (20, 44):
        plane[(y - 32) ** 2 + (x - centre) ** 2 < 9**2] = -850
    plane[46:50, 30:34] = 700
    return (plane + rng.normal(0, 20, (60, 64, 64))).clip(-1024).astype(np.int16)


def inspect(tmp_path: Path, hu: np.ndarray, affine: np.ndarray | None = None) -> Inspection:
    standard = Volume.canonical(hu, (5.0, 4.0, 4.0), (-100, -100, 0))
    (found,) = inspect_path(write_volume(standard if affine is None else Volume(hu, affine), tmp_path / "v.nii.gz"))
    return found


def test_a_good_scan_has_no_remarks(tmp_path: Path) -> None:
    found = inspect(tmp_path, chest())
    assert found.remarks == ()
    assert found.lung is not None
    assert found.lung > 0.15
    text = format_inspection(found)
    assert str(found) == text
    for words in (
        "64 x 64 x 60 (x, y, z)",
        "4 x 4 x 5 mm",
        "256 x 256 x 300 mm",
        "LPS",
        "int16",
        "air -990 HU",
        "nothing looks wrong",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda hu: hu - 1024, "computed twice"),
        (lambda hu: hu + 1024, "never applied"),
        (lambda hu: (hu / 1000).clip(-1, 1).astype(np.float32), "normalised intensities"),
        (lambda hu: ((hu + 1024) / 12).clip(0, 255).astype(np.int16), "grey levels"),
        (lambda hu: np.full_like(hu, 7), "every voxel is 7"),
        (lambda hu: np.where(np.indices(hu.shape)[1] < 6, -8192, hu).astype(np.int16), "mostly -8192"),
        (lambda hu: np.where(hu < -400, 40, hu).astype(np.int16), "no air peak"),
        (lambda hu: np.where((hu < -700) & (hu > -920), 40, hu).astype(np.int16), "no chest"),
        (lambda hu: hu[:8], "a slab: it covers 40 mm"),
        (lambda hu: np.ascontiguousarray(hu[:, ::-1]), "the y axis may be flipped"),
    ],
)
def test_what_looks_wrong_is_said(tmp_path: Path, change: Callable[[np.ndarray], np.ndarray], words: str) -> None:
    remarks = inspect(tmp_path, change(chest())).remarks
    assert len([remark for remark in remarks if words in remark]) == 1, remarks


@pytest.mark.parametrize(
    ("affine", "words"),
    [
        (np.eye(4)[[2, 1, 0, 3]], "geometry was lost"),
        (np.array([[0, 0, 4.0, 0], [0, -4, 0, 250], [5, 0, 0, 1], [0, 0, 0, 1]]), "flipped axis y"),
        (np.array([[5.0, 0, 0, 0], [0, 4, 0, 0], [0, 0, 4, 1], [0, 0, 0, 1]]), "stored in another order"),
        (np.array([[0, 0, 0.7, 0], [0, 0.7, 0, 0], [8, 0, 0, 1], [0, 0, 0, 1]]), "thick slices: 8 mm"),
        (np.array([[0, 0, 0.7, 0], [0, 0.7, 0, 0], [8, 0, 0, 1], [0, 0, 0, 1]]), "11.4 times the shortest"),
        (np.array([[0, 0, 0.004, 0], [0, 0.004, 0, 0], [0.005, 0, 0, 1], [0, 0, 0, 1]]), "are the units mm"),
        (np.array([[0, 0, 4.0, 0], [-1.0, 3.9, 0, 0], [4.9, 0.8, 0, 1], [0, 0, 0, 1]]), "degrees oblique"),
    ],
)
def test_geometry_that_looks_wrong_is_said(tmp_path: Path, affine: np.ndarray, words: str) -> None:
    remarks = inspect(tmp_path, chest(), affine.astype(float)).remarks
    assert len([remark for remark in remarks if words in remark]) == 1, remarks


def test_a_folder_is_inspected_to_the_end(tmp_path: Path) -> None:
    inspect(tmp_path, chest())
    (tmp_path / "broken.nii.gz").write_text("hello")
    seen: list[tuple[int, int]] = []
    found = inspect_path(tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert [inspection.error is None for inspection in found] == [False, True]
    assert seen == [(0, 2), (1, 2)]
    text = render(found)
    assert "cannot be read: is named .gz" in text
    assert text.endswith("2 scans: 1 cannot be read, 0 with remarks")


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        inspect_path(tmp_path / "nothing.nii.gz")
    with pytest.raises(DataError, match="no scans under"):
        inspect_path(tmp_path)
    (tmp_path / "bad.nii.gz").write_text("hello")
    with pytest.raises(VolumeError):
        inspect_path(tmp_path / "bad.nii.gz")


def test_statistics() -> None:
    hu = chest()
    found = measure(np.where(np.indices(hu.shape)[2] < 16, -3024, hu))
    assert found.padding_hu == -3024
    assert found.padding_share == 0.25
    assert (found.low, found.high) == (-3024, hu[:, :, 16:].max())
    assert found.air_peak_hu == pytest.approx(-1000, abs=20)
    assert found.soft_peak_hu == pytest.approx(40, abs=20)


@pytest.mark.slow
def test_real_scans_raise_no_false_alarm_about_hu(shared_folder: Path) -> None:
    for found in inspect_path(shared_folder / "data" / "ct"):
        assert found.intensity is not None
        assert found.intensity.problems == ()
        assert any("slab" in remark for remark in found.remarks) == ("slab" in found.path.name)
        assert any("no chest" in remark for remark in found.remarks) == ("abdomen" in found.path.name)
        assert not any("bone lies" in remark for remark in found.remarks)
