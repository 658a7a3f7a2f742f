from __future__ import annotations

import numpy as np
import pytest

from ctgen.data.atlas.deform import coordinates, smooth_field, upsample
from ctgen.data.atlas.patient import draw_patient
from ctgen.data.atlas.tissue import load_guides, load_tissue


def test_upsample_keeps_straight_lines() -> None:
    control = np.arange(8, dtype=np.float32)[None, :, None, None] + np.zeros((1, 8, 8, 8), np.float32)
    positions = [np.linspace(0, 4.9, 30), np.array([0.0, 2.5]), np.array([1.0])]
    line = upsample(control, positions)[0, :, 1, 0]
    np.testing.assert_allclose(line, positions[0] + 1, atol=1e-5)


def test_smooth_field_of_a_box_is_part_of_the_whole() -> None:
    shape, spacing = (20, 24, 28), (3.0, 3.0, 3.0)
    whole = smooth_field(np.random.default_rng(1), shape, spacing, 9.0, (slice(0, 20), slice(0, 24), slice(0, 28)))
    box = (slice(4, 15), slice(1, 9), slice(7, 28))
    np.testing.assert_array_equal(smooth_field(np.random.default_rng(1), shape, spacing, 9.0, box), whole[box])
    assert whole.std() == pytest.approx(1.0, abs=0.25)


@pytest.mark.parametrize("index", range(6))
def test_map_is_one_to_one_even_with_a_very_large_heart(index: int) -> None:
    tissue = load_tissue((4.5, 4.5, 4.5))
    where = coordinates(
        11,
        index,
        draw_patient(11, index),
        load_guides(),
        heart_scale=1.7,
        size=(40, 56, 56),
        spacing_mm=(7.0, 7.0, 7.0),
        atlas_shape=tissue.labels.shape,
        atlas_spacing=tissue.spacing_mm,
    )
    slopes = np.stack([np.stack(np.gradient(component)) for component in where.astype(float)])
    assert np.linalg.det(np.moveaxis(slopes, (0, 1), (-2, -1))).min() > 0
