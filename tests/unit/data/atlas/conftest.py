from __future__ import annotations

import pytest

from ctgen.data.atlas.config import AtlasThoraxConfig


@pytest.fixture(scope="session")
def coarse() -> AtlasThoraxConfig:
    """A whole chest, small enough for tests."""
    return AtlasThoraxConfig(cases=8, size=(64, 84, 84), spacing_mm=(4.5, 4.5, 4.5))
