"""Files are whole or absent; hashes are the same in every process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ctgen.atomic import fingerprint, read_json, sha256_of, stable_hash, write_atomically, write_json, write_text


def test_json_round_trip_and_parents(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.json"
    assert write_json(path, {"b": [1, 2.5], "a": "ü"}) == path
    assert read_json(path) == {"a": "ü", "b": [1, 2.5]}
    assert [found.name for found in path.parent.iterdir()] == ["c.json"]


def test_a_failed_write_keeps_the_old_file_and_leaves_no_temporary(tmp_path: Path) -> None:
    path = write_text(tmp_path / "x.txt", "old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["x.txt"]


def test_the_temporary_keeps_the_whole_suffix(tmp_path: Path) -> None:
    seen: list[str] = []

    def write(temporary: Path) -> None:
        seen.append(temporary.name)
        temporary.write_bytes(b"1")

    write_atomically(tmp_path / "scan.nii.gz", write)
    assert seen[0].endswith(".nii.gz")


def test_sha256_of_file_and_folder(tmp_path: Path) -> None:
    one = write_text(tmp_path / "f" / "a.txt", "hello")
    assert sha256_of(one) == "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    before = sha256_of(tmp_path / "f")
    one.rename(one.with_name("b.txt"))
    assert sha256_of(tmp_path / "f") != before


def test_stable_hash_is_the_same_in_another_process() -> None:
    code = "from ctgen.atomic import stable_hash; print(stable_hash('case', 7))"
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment).stdout
    assert int(out) == stable_hash("case", 7)
    assert 0 <= stable_hash("x") < 2**63
    assert stable_hash("a", "b") != stable_hash("ab")


def test_fingerprint_ignores_key_order_only() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    assert len(fingerprint(None)) == 16
