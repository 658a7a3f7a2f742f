"""References to weights are explicit: nothing is guessed, nothing falls back."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest
from pydantic import TypeAdapter

from ctgen import weights
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
    with pytest.raises(MissingFileError, match="net: no mini weights") as caught:
        locate("mini", component="net", shipped={"mini": file}, how_to_get="train your own")
    assert caught.value.hint == "use weights=random or a path\ntrain your own"
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


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str] | None]]:
    """The hub as a folder; returns what was asked of it."""
    asked: list[tuple[str, list[str] | None]] = []

    def snapshot_download(repository: str, allow_patterns: list[str] | None = None) -> str:
        asked.append((repository, allow_patterns))
        if repository == "owner/offline":
            raise OSError("no route to host\nand more")
        return str(tmp_path)

    (tmp_path / "sub" / "folder").mkdir(parents=True)
    (tmp_path / "sub" / "folder" / "w.safetensors").write_bytes(b"abc")
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(weights, "_noted", set())
    return asked


def test_the_hub_is_never_used_silently(
    hub: list[tuple[str, list[str] | None]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ref = REF.validate_python("hf:owner/name/sub/folder")
    for _ in range(2):
        assert locate(ref, component="net") == tmp_path / "sub" / "folder"
    said = capsys.readouterr().err
    assert said.count("\n") == 1, "once per process"
    assert "net: fetching sub/folder of owner/name" in said and str(huggingface_hub.constants.HF_HUB_CACHE) in said
    assert hub[0] == ("owner/name", ["sub/folder", "sub/folder/*"]), "nothing else of the repository"
    assert locate("hf:owner/name/sub/folder/w.safetensors", component="net") == tmp_path / "sub/folder/w.safetensors"
    assert locate("hf:owner/name", component="net") == tmp_path and hub[-1] == ("owner/name", None)
    assert "everything of owner/name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ref", "text"),
    [
        ("hf:owner/offline/sub", "could not get sub of owner/offline from the Hugging Face hub: OSError: no route to host\n"),
        ("hf:owner/name/absent", "owner/name on the Hugging Face hub holds no absent"),
        ("hf:owner/name/empty", "holds no empty"),
        ("hf:owner", "not of the form"),
        ("hf:owner/name/../../etc", "not of the form"),
    ],
)
def test_what_the_hub_does_not_give_is_one_clear_error(hub: object, ref: str, text: str) -> None:
    with pytest.raises(MissingFileError) as caught:
        locate(ref, component="net")
    assert text in str(caught.value) and str(caught.value).startswith("net: ")


def test_a_file_is_labelled_with_its_hash(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"abc")
    assert locate(str(file), component="net") == file
    assert info(str(file), file).label == "FILE"
