"""The gate that tells chests from other scans."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ctgen.data.chest import bone_offset_mm, lung_fraction
from ctgen.volume import Volume
from ctgen.volume.io import read_volume
from ctgen.volume.orient import to_canonical


def body(inside_hu: float, *, cut: bool = False, padding: int = -1000) -> Volume:
    """A body with two hollows of ``inside_hu``; ``cut``: the image ends inside one of them. Noise as in a scan."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:96, :96]
    plane = np.full((96, 96), -1000.0)
    plane[(y - 48) ** 2 / 30**2 + (x - 48) ** 2 / 42**2 < 1] = 40
    for centre in (30, 66):
        plane[(y - 48) ** 2 + (x - centre) ** 2 < 13**2] = inside_hu
    plane[70:74, 46:50] = 700
    hu = np.repeat(plane[None], 20, 0) + rng.normal(0, 25, (20, 96, 96))
    hu[:, (y - 48) ** 2 + (x - 48) ** 2 > 47**2] = padding
    hu = hu[:, 20:76, :68] if cut else hu
    return Volume.canonical(hu.astype(np.int16), (4.0, 4.0, 4.0))


def test_lungs_count_and_bowel_gas_does_not() -> None:
    assert lung_fraction(body(-850)) == pytest.approx(0.26, abs=0.04)
    assert lung_fraction(body(-1000)) < 0.015
    assert lung_fraction(body(40)) == 0.0


def test_field_of_view_padding_does_not_matter() -> None:
    assert lung_fraction(body(-850, padding=-8192)) == pytest.approx(lung_fraction(body(-850)), abs=0.01)


def test_a_lung_cut_open_by_the_field_of_view_counts() -> None:
    assert lung_fraction(body(-850, cut=True)) > 0.2
    assert lung_fraction(body(40, cut=True)) < 0.01


@pytest.mark.parametrize("value", [-1000, 40, -850])
def test_volumes_without_a_body(value: int) -> None:
    assert lung_fraction(Volume.canonical(np.full((5, 20, 20), value, np.int16), (3, 3, 3))) == 0.0


def test_bone_lies_behind() -> None:
    offset = bone_offset_mm(body(-850))
    assert offset is not None
    assert offset > 50
    assert bone_offset_mm(Volume.canonical(np.full((5, 20, 20), -1000, np.int16), (3, 3, 3))) is None


@pytest.mark.slow
def test_real_scans_are_told_apart_with_a_wide_margin(shared_folder: Path) -> None:
    lungs = {
        path.name: lung_fraction(to_canonical(read_volume(path))[0])
        for path in (shared_folder / "data" / "ct").glob("*.nii.gz")
    }
    chests = [lung for name, lung in lungs.items() if name.startswith("chest")]
    others = [lung for name, lung in lungs.items() if not name.startswith("chest")]
    assert len(chests) == 7
    assert len(others) == 2
    assert min(chests) > 0.12
    assert max(others) < 0.012
