"""References to weights are explicit: nothing is guessed, nothing falls back."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import TypeAdapter

from ctgen.atomic import sha256_of
from ctgen.errors import MissingFileError
from ctgen.weights import WeightsRef, info, locate

REF = TypeAdapter(WeightsRef)


@pytest.mark.parametrize("ref", ["mini", "random", "hf:owner/name/sub"])
def test_named_references_stay(ref: str) -> None:
    assert REF.validate_python(ref) == ref


def test_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert REF.validate_python("w.safetensors") == str(tmp_path / "w.safetensors")
    assert REF.validate_python("~/w") == str(Path.home() / "w")


def test_random_is_none_and_labelled() -> None:
    assert locate("random", component="net") is None
    assert info("random", None).label == "RANDOM"


def test_mini_is_what_is_shipped(tmp_path: Path) -> None:
    file = tmp_path / "mini.safetensors"
    with pytest.raises(MissingFileError, match="net: no mini weights"):
        locate("mini", component="net", shipped={"mini": file})
    file.write_bytes(b"abc")
    assert locate("mini", component="net", shipped={"mini": file}) == file
    found = info("mini", file)
    assert (found.label, found.sha256) == ("MINI", sha256_of(file))


def test_a_missing_file_says_where_it_was_looked_for_and_how_to_get_it(tmp_path: Path) -> None:
    path = tmp_path / "ae.safetensors"
    with pytest.raises(MissingFileError) as caught:
        locate(str(path), component="flux-vae", how_to_get="download it from there")
    assert str(path) in str(caught.value)
    assert "download it from there" in caught.value.hint


def test_a_misspelt_name_is_suggested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingFileError, match="did you mean 'random'"):
        locate(REF.validate_python("radnom"), component="net")


def test_a_file_is_labelled_with_its_hash(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"abc")
    assert locate(str(file), component="net") == file
    assert info(str(file), file).label == "FILE"
