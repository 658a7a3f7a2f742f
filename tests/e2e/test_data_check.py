"""``ctgen data simulate --layout ct-rate`` and ``ctgen data check`` as programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = [sys.executable, "-c", "from ctgen.cli import main; main()"]


def ctgen(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    command = [*PROGRAM, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=600)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("check")
    words = ("--layout", "ct-rate", "--cases", 48, "--size", "24,24,24", "--seed", 1, "--damage")
    done = ctgen("data", "simulate", "copy", *words, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "48 scans in copy/dataset; what is in them: copy/planted.json\n"
    return folder


def test_a_spoilt_copy_ends_with_code_3_and_a_page(folder: Path) -> None:
    done = ctgen("data", "check", "copy", "-o", "audit", "--workers", 2, cwd=folder)
    assert done.returncode == 3, done.stderr
    assert "HU computed twice" in done.stdout
    assert "\x1b[" not in done.stdout
    assert "serious findings of 9 kinds" in done.stdout
    found = json.loads((folder / "audit" / "check.json").read_text())
    planted = json.loads((folder / "copy" / "planted.json").read_text())["planted"]
    pairs = {(one["kind"], one["subject"]) for one in found["findings"]}
    assert {(one["kind"], one["subject"]) for one in planted} <= pairs
    assert (folder / "audit" / "check.html").read_text().startswith("<!doctype html>")
    assert "# " in (folder / "audit" / "exclude.txt").read_text()
    again = ctgen("data", "check", "copy/dataset", "-o", "audit", "--json", "-q", cwd=folder)
    assert again.returncode == 3
    assert json.loads(again.stdout) == found


def test_a_clean_copy_ends_with_code_0(folder: Path) -> None:
    words = ("--layout", "ct-rate", "--cases", 3, "--size", "24,24,24", "--intensity", "raw")
    assert ctgen("data", "simulate", "clean", *words, "-q", cwd=folder).returncode == 0
    done = ctgen("data", "check", "clean", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "volumes" in done.stdout and "nothing serious" in done.stdout


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("check", "."), "is no copy of CT-RATE"),
        (("check", "nowhere"), "no folder at"),
        (("simulate", "x", "--layout", "rate"), "choose folder or ct-rate"),
        (("simulate", "x", "--damage"), "add --layout ct-rate"),
        (("simulate", "x", "--layout", "ct-rate", "--intensity", "hu"), "choose fixed or raw"),
        (("simulate", "x", "--layout", "ct-rate", "--damage", "--cases", "5"), "make at least"),
        (("simulate", "x", "--layout", "ct-rate", "--masks"), "--masks is for --layout folder"),
        (("simulate", "x", "--size", "24"), "is not a size"),
        (("simulate", "x", "--size", "8,8,8"), "at least 16 voxels"),
    ],
)
def test_mistakes_are_explained(tmp_path: Path, words: tuple[str, ...], text: str) -> None:
    done = ctgen("data", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert text in done.stderr
    assert not (tmp_path / "x").exists()
