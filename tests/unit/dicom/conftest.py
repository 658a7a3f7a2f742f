"""A real series, where somebody has put one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_series() -> Path:
    """20 slices of an upper abdomen: example_ct_dicom of the PyPI sdist totalsegmentator 2.18.0 (Apache-2.0).

    10 MB and not part of the repository: CTGEN_REAL_DICOM names the folder.
    """
    folder = os.environ.get("CTGEN_REAL_DICOM")
    if folder is None or not Path(folder).is_dir():
        pytest.skip("no real series: set CTGEN_REAL_DICOM to example_ct_dicom of the PyPI sdist totalsegmentator 2.18.0")
    return Path(folder)
