"""docs/recipe-reference.md is what the models say today."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctgen.builtin import plugin as builtin
from ctgen.host import Host
from ctgen.recipe.reference import reference

PAGE = Path(__file__).resolve().parents[3] / "docs" / "recipe-reference.md"
COMMAND = "ctgen schema --markdown --plugin baseline --plugin builtin --plugin ctflow -o docs/recipe-reference.md"


def test_the_page_is_current():
    ctflow = pytest.importorskip("ctgen_ctflow.plugin")
    baseline = pytest.importorskip("ctgen_baseline.plugin")
    host = Host()
    host.register(builtin, "builtin")
    host.register(ctflow, "ctflow")
    host.register(baseline, "baseline")
    expected = reference(host, plugins={"baseline", "builtin", "ctflow"})
    assert COMMAND in expected
    # Compared as a bool: pytest's difference of two long pages takes longer than the test.
    current = PAGE.read_text(encoding="utf-8") == expected
    assert current, f"docs/recipe-reference.md is out of date; run: {COMMAND}"
