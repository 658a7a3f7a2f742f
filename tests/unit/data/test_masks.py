from __future__ import annotations

import numpy as np
import pytest

from ctgen.data.labels import LABELS
from ctgen.data.masks import in_order, known_labels, pack, planes_of, read_bits, read_masks, regrid, write_masks
from ctgen.errors import DataError
from ctgen.testing import phantom
from ctgen.volume import Volume
from ctgen.volume.orient import Orientation, from_canonical
from ctgen.volume.resample import crop_or_pad, resample

SHAPE = (5, 7, 9)  # 315 voxels: no whole number of bytes


def drawn(*labels, shape=SHAPE):
    rng = np.random.default_rng(0)
    return {label: rng.random(shape) < 0.3 for label in labels}


def test_bits_are_labels_and_may_overlap():
    masks = drawn("Interlobular septal thickening", "Medical material", "Lung nodule")
    bits = pack(masks, SHAPE, "a")
    assert (bits.dtype, bits.shape) == (np.int32, SHAPE)
    for place, label in enumerate(LABELS):
        assert np.array_equal((bits >> place) & 1, masks.get(label, np.zeros(SHAPE)))
    assert len(np.unique(bits)) == 8


def test_files_hold_masks_as_they_were_in_the_order_of_labels(tmp_path):
    masks = drawn("Pleural effusion", "Atelectasis", "Medical material")
    masks["Atelectasis"] &= False
    labels, bits = in_order(masks), pack(masks, SHAPE, "a")
    assert labels == ("Medical material", "Atelectasis", "Pleural effusion")
    write_masks(tmp_path / "a.npz", planes_of(bits, labels), labels, SHAPE)
    found = read_masks(tmp_path / "a.npz")
    assert tuple(found) == labels
    for label, mask in found.items():
        assert mask.dtype == np.bool_
        assert np.array_equal(mask, masks[label])
    assert np.array_equal(read_bits(tmp_path / "a.npz"), bits)
    write_masks(tmp_path / "b.npz", planes_of(bits, labels), labels, SHAPE)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_case_without_findings_has_masks_too(tmp_path):
    write_masks(tmp_path / "a.npz", planes_of(pack({}, SHAPE, "a"), ()), (), SHAPE)
    assert read_masks(tmp_path / "a.npz") == {}
    assert read_bits(tmp_path / "a.npz").shape == SHAPE
    assert not read_bits(tmp_path / "a.npz").any()


def test_known_is_what_has_a_mask_or_is_not_there():
    record = {"labels": {label: int(label in ("Lung nodule", "Emphysema")) for label in LABELS}, "masks": ["Lung nodule"]}
    assert [label for label, known in zip(LABELS, known_labels(record), strict=True) if not known] == ["Emphysema"]
    record = {"labels": None, "masks": ["Lung nodule"]}
    assert [label for label, known in zip(LABELS, known_labels(record), strict=True) if known] == ["Lung nodule"]
    record = {"labels": {"Lung nodule": 0}, "masks": []}
    assert [label for label, known in zip(LABELS, known_labels(record), strict=True) if known] == ["Lung nodule"]


def test_masks_that_do_not_fit_are_named():
    with pytest.raises(DataError, match="a: no label is called 'Lung nodul'") as caught:
        pack(drawn("Lung nodul"), SHAPE, "a")
    assert "'Lung nodule'" in caught.value.hint
    with pytest.raises(DataError, match="the mask of Emphysema has 2 x 7 x 9 voxels, the volume has 5 x 7 x 9"):
        pack(drawn("Emphysema", shape=(2, 7, 9)), SHAPE, "a")
    with pytest.raises(DataError, match="the mask of Emphysema is int64, not bool"):
        pack({"Emphysema": np.ones(SHAPE, int)}, SHAPE, "a")


@pytest.mark.parametrize("native", [Orientation((0, 1, 2), (False,) * 3), Orientation((2, 0, 1), (True, False, True))])
def test_masks_go_where_their_volume_goes(native):
    """A bright cube's mask, and the cube: after another grid they are still in one place."""
    hu = np.full((20, 30, 40), -1000, np.int16)
    hu[4:13, 6:19, 22:37] = 1000
    volume = from_canonical(Volume(hu, phantom((20, 30, 40), (3.0, 2.0, 1.5)).affine), native)
    bits = Volume(pack({"Lung nodule": volume.hu > 0}, volume.shape, "a"), volume.affine)
    placed = resample(Volume(hu, phantom((20, 30, 40), (3.0, 2.0, 1.5)).affine), (2.0, 2.0, 2.0))
    middle = [*(placed.affine @ [12, 12, 20, 1])[:3]]
    grid = crop_or_pad(placed, (24, 36, 24), fill_hu=-1000, centre_mm=middle, axes="HW")
    grid = crop_or_pad(grid, (24, 36, 24), fill_hu=-1000, axes="D")
    found = regrid(bits, grid, (2.0, 2.0, 2.0), middle)
    bright = grid.hu > 0
    assert found.shape == bright.shape
    assert 800 < bright.sum() < hu.size
    assert (found == bright << LABELS.index("Lung nodule")).mean() > 0.98
    agree = ((found > 0) & bright).sum() / ((found > 0) | bright).sum()
    assert agree > 0.85
    padded = regrid(bits, crop_or_pad(grid, (90, 36, 24), fill_hu=-1000, axes="D"), (2.0, 2.0, 2.0), middle)
    assert not padded[:20].any() and not padded[-20:].any() and padded.sum() == found.sum()
