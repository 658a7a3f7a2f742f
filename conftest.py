"""Fixtures for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
REPOSITORY = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def shared_folder() -> Path:
    """Real scans and parity fixtures that are not part of the repository."""
    folder = Path(os.environ.get("CTGEN_SHARED", REPOSITORY.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no test data folder at {folder} (set CTGEN_SHARED)")
    return folder
