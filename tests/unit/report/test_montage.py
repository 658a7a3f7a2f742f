from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ctgen.errors import DataError
from ctgen.report.montage import montage, overview
from ctgen.report.planes import axial, coronal, index_at, relative_heights, sagittal
from ctgen.volume import Volume
from ctgen.volume.orient import from_canonical, orientation_of

SHAPE, SPACING = (20, 24, 30), (5.0, 2.0, 2.0)


def marked():
    """Air with a bright cube at the patient's right, anterior, superior: the low W, low H, high D corner."""
    hu = np.full(SHAPE, -1000, np.int16)
    hu[14:, :8, :8] = 1000
    return Volume.canonical(hu, SPACING)


def brightest(pixels):
    """(row, column) of the middle of what is bright, as fractions of the picture."""
    rows, columns = np.nonzero(pixels > pixels.min() + 0.7 * (np.ptp(pixels)))
    return rows.mean() / pixels.shape[0], columns.mean() / pixels.shape[1]


def test_right_is_left_anterior_and_head_are_up():
    for plane in (axial(marked(), 0.9), coronal(marked(), 0.1)):
        row, column = brightest(plane.hu)
        assert row < 0.35 and column < 0.35
    row, column = brightest(sagittal(marked(), 0.1).hu)
    assert row < 0.35 and column < 0.35
    assert (axial(marked(), 0.1).hu == -1000).all()


def test_a_volume_in_another_orientation_looks_the_same():
    affine = np.zeros((4, 4))
    affine[0, 0], affine[1, 2], affine[2, 1], affine[3, 3] = -1, -1, -1, 1
    turned = from_canonical(marked(), orientation_of(affine))
    assert turned.shape != SHAPE
    for cut in (axial, coronal, sagittal):
        assert np.array_equal(cut(turned, 0.3).hu, cut(marked(), 0.3).hu)


def test_planes_know_their_size_in_millimetres():
    assert axial(marked(), 0.5).size_mm == (48.0, 60.0)
    assert coronal(marked()).size_mm == (100.0, 60.0)
    assert sagittal(marked()).size_mm == (100.0, 48.0)


def test_relative_heights_are_inside_and_even():
    assert relative_heights(4) == [0.125, 0.375, 0.625, 0.875]
    assert index_at(1.0, 20) == 19 and index_at(0.0, 20) == 0 and index_at(0.5, 21) == 10


def white_in(path):
    """(rows, columns) of the white cube's pixels; captions are thinner than the run of 20 pixels that a row must have."""
    white = np.asarray(Image.open(path).convert("L")) > 250
    rows = np.flatnonzero(white.sum(axis=1) > 20)
    return rows, np.flatnonzero(white[rows].any(axis=0))


@pytest.mark.parametrize(("axis", "of_picture"), [(2, 1), (1, 0)], ids=["right is left", "anterior is up"])
def test_the_png_shows_the_marker_at_the_upper_left(tmp_path, axis, of_picture):
    hu = np.full(SHAPE, -1000, np.int16)
    hu[8:11, :8, :8] = 1000  # only in the axial plane through the middle
    there = white_in(montage([("", Volume.canonical(hu, SPACING))], tmp_path / "a.png", slices=1))
    mirrored = white_in(montage([("", Volume.canonical(np.flip(hu, axis), SPACING))], tmp_path / "b.png", slices=1))
    assert there[of_picture].mean() + 50 < mirrored[of_picture].mean()
    assert there[1 - of_picture].mean() == pytest.approx(mirrored[1 - of_picture].mean(), abs=1)


def test_the_png_has_the_right_aspect(tmp_path):
    hu = np.full(SHAPE, -1000, np.int16)
    hu[14:, :, :8] = 1000  # only in the coronal plane: 30 mm high, 16 mm wide
    path = montage([("", Volume.canonical(hu, SPACING))], tmp_path / "deep" / "m.png", slices=1)
    rows, columns = white_in(path)
    assert len(rows) / len(columns) == pytest.approx(30 / 16, rel=0.1)


def test_several_columns_slices_and_boundaries_make_a_larger_picture(tmp_path):
    one = Image.open(montage([("real", marked())], tmp_path / "1.png", slices=1, title="x")).size
    two = Image.open(
        montage([("real", marked()), ("made", marked())], tmp_path / "2.png", slices=3, title="x", boundaries={"made": (8, 16)})
    ).size
    assert two[0] > 1.5 * one[0] and two[1] > 1.3 * one[1]
    amber = np.asarray(Image.open(tmp_path / "2.png").convert("RGB")).astype(int)
    ticks = (amber[..., 0] - amber[..., 2] > 120).sum()
    montage([("real", marked()), ("made", marked())], tmp_path / "3.png", slices=3, title="x")
    plain = np.asarray(Image.open(tmp_path / "3.png").convert("RGB")).astype(int)
    assert ticks > (plain[..., 0] - plain[..., 2] > 120).sum() + 20


def test_the_same_content_is_the_same_file_and_nothing_else_is_left(tmp_path):
    paths = [overview(marked(), tmp_path / name, "case 1", boundaries=(10,)) for name in ("a.png", "b.png")]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_a_long_report_is_broken_into_lines_that_fit(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr("ctgen.report.montage.save_png", lambda figure, path: figures.append(figure))
    overview(marked(), tmp_path / "a.png", title="Moderate mediastinal lymphadenopathy, maximum 12 mm. " * 20)
    overview(marked(), tmp_path / "b.png", title="Normal.")
    long, short = figures
    title = long.texts[0]
    right = title.get_window_extent().x1
    assert title.get_text().count("\n") == 2 and title.get_text().endswith("…")
    assert right <= long.bbox.width
    assert long.bbox.height > short.bbox.height and short.texts[0].get_text() == "Normal."
    assert any("voxels" in text.get_text() for text in long.texts)
    montage([("real", marked())], tmp_path / "c.png")
    *_, legend, bar = figures[-1].texts
    assert "voxels" not in legend.get_text() and bar.get_text() == "10 cm"


def test_no_volume_is_an_error(tmp_path):
    with pytest.raises(DataError, match="at least one"):
        montage([], tmp_path / "m.png")
