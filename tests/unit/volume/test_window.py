"""Display windows."""

from __future__ import annotations

import numpy as np
import pytest

from ctgen.errors import ConfigError
from ctgen.volume.window import WINDOWS, from_unit, to_unit


@pytest.mark.parametrize("name", list(WINDOWS))
def test_ends_and_inverse(name: str) -> None:
    low, high = WINDOWS[name]
    hu = np.array([low - 500, low, (low + high) / 2, high, high + 500])
    unit = to_unit(hu, name)
    assert unit.dtype == np.float32
    np.testing.assert_allclose(unit, [0, 0, 0.5, 1, 1])
    np.testing.assert_allclose(from_unit(unit, WINDOWS[name]), hu.clip(low, high), atol=1e-3)


def test_the_input_is_not_changed() -> None:
    hu = np.array([-2000.0, 2000.0], np.float32)
    to_unit(hu, "wide")
    assert hu.tolist() == [-2000.0, 2000.0]


def test_mistakes() -> None:
    with pytest.raises(ConfigError, match="did you mean 'lung'"):
        to_unit(np.zeros(1), "lungs")
    with pytest.raises(ConfigError, match="low < high"):
        to_unit(np.zeros(1), (5.0, 5.0))
