"""Fixtures for recipe tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest


def _load_fakes():
    # pytest's importlib mode puts no test folder on sys.path; pydantic resolves annotations through sys.modules.
    name = "ctgen_recipe_test_fakes"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("fakes.py"))
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(scope="session")
def fakes():
    """tests/unit/recipe/fakes.py"""
    return _load_fakes()


@pytest.fixture
def host(fakes):
    """A host with the fake components only."""
    return fakes.fake_host()


@pytest.fixture
def full(fakes, tmp_path) -> Path:
    """A recipe file without mistakes."""
    path = tmp_path / "full.yaml"
    path.write_text(fakes.FULL, encoding="utf-8")
    return path
