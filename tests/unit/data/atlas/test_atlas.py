from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import ctgen.data.atlas
from ctgen.data.atlas.atlas import load_atlas


def centre_of(*parts: str) -> np.ndarray:
    return np.argwhere(load_atlas().mask(*parts)).mean(0)


def test_is_canonical_lps() -> None:
    affine = load_atlas().volume.affine
    assert affine[2, 0] == 2.5 and affine[1, 1] == affine[0, 2] == 1.40625
    assert centre_of("lung_upper_lobe_right")[2] < centre_of("lung_upper_lobe_left")[2]
    assert centre_of("sternum")[1] < centre_of("heart")[1] < centre_of("vertebrae_T8")[1]
    assert centre_of("liver")[0] < centre_of("heart")[0] < centre_of("clavicula")[0]


def test_structures_have_the_hu_of_their_tissue() -> None:
    atlas = load_atlas()
    medians = {
        name: float(np.median(atlas.hu[atlas.mask(name)])) for name in ("lung_", "trachea", "liver", "aorta", "vertebrae")
    }
    assert medians["lung_"] == pytest.approx(-870, abs=40)
    assert medians["trachea"] < -900
    assert medians["liver"] == pytest.approx(70, abs=20)
    assert medians["aorta"] > 300, "the scan has contrast"
    assert medians["vertebrae"] > 150


def test_the_patients_own_nodule_is_gone() -> None:
    atlas = load_atlas()
    inside = atlas.hu[86:95, 132:148, 151:167][atlas.mask("lung_lower_lobe_left")[86:95, 132:148, 151:167]]
    assert np.mean(inside > -300) < 0.04


def test_unknown_structure() -> None:
    with pytest.raises(KeyError, match="femur"):
        load_atlas().mask("femur")


def test_resource_is_small_and_attributed() -> None:
    folder = Path(ctgen.data.atlas.__file__).parent / "resources"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 8e6
    text = (folder / "ATTRIBUTION.md").read_text()
    assert "10.7937/K9/TCIA.2015.LO9QL9SX" in text and "CC BY 3.0" in text and "Changes made" in text
