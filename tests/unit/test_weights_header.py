"""Headers of weights files: read without torch, checked against the file, hostile ones refused in one sentence."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ctgen.errors import CheckpointError, MissingFileError
from ctgen.weights_header import read_header

STATE = {"a": torch.zeros(2, 3), "b.c": torch.zeros(4, dtype=torch.bfloat16), "n": torch.tensor(3), "m": torch.ones(2).bool()}


def with_header(path: Path, header: object, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def test_shapes_types_and_metadata(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "w.safetensors", {"made": "here"})
    torch.save(STATE, tmp_path / "w.pt")
    torch.save({"epoch": 3, "state_dict": STATE}, tmp_path / "nested.pt")
    torch.save(STATE, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    found = read_header(tmp_path / "w.safetensors")
    assert found.layout == "safetensors" and found.metadata == {"made": "here"}
    assert {name: (entry.shape, entry.dtype) for name, entry in found.tensors.items()} == {
        "a": ((2, 3), "F32"),
        "b.c": ((4,), "BF16"),
        "n": ((), "I64"),
        "m": ((2,), "BOOL"),
    }
    assert found.precisions() == {"F32": 6, "BF16": 4, "BOOL": 2, "I64": 1}
    for name in ("w.pt", "nested.pt", "old.pt"):
        other = read_header(tmp_path / name)
        assert other.layout == "pickle" and other.tensors == found.tensors
    torch.save({**STATE, "epoch": 3}, tmp_path / "w.pt")
    assert read_header(tmp_path / "w.pt").left_out == ("epoch",)


def test_a_folder_is_its_first_file_with_weights(tmp_path: Path) -> None:
    for name in ("aaa.safetensors", "model.safetensors", "ema.safetensors"):
        save_file(STATE, tmp_path / name)
    (tmp_path / "config.json").write_text('{"depth": 3}')
    found = read_header(tmp_path)
    assert found.file.name == "ema.safetensors" and found.beside == {"config.json": {"depth": 3}}
    assert [other.name for other in found.others] == ["aaa.safetensors", "model.safetensors"]
    (tmp_path / "stage" / "final").mkdir(parents=True)
    save_file(STATE, tmp_path / "stage" / "final" / "backbone.safetensors")
    assert read_header(tmp_path / "stage").file.name == "backbone.safetensors"
    (tmp_path / "nothing").mkdir()
    with pytest.raises(CheckpointError, match="holds no file with weights"):
        read_header(tmp_path / "nothing")
    with pytest.raises(MissingFileError, match="no such file"):
        read_header(tmp_path / "absent")


ONE = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}


@pytest.mark.parametrize(
    ("header", "data", "length", "text"),
    [
        (ONE, b"1234", None, "need 8 bytes, it has 4"),
        (ONE, b"123456789", None, "need 8 bytes, it has 9"),
        (ONE, b"12345678", 1 << 62, "its header would have"),
        (b"x" * 8, b"", None, "not JSON"),
        (b"[" * 200_000, b"", None, "not JSON"),
        (b"[1]", b"", None, "not a JSON object"),
        ({"__metadata__": {"a": 3}}, b"", None, "metadata"),
        ({"a": 3}, b"", None, "'a' is damaged"),
        ({"a": {**ONE["a"], "dtype": "OBJECT"}}, b"12345678", None, "'a' is damaged"),
        ({"a": {**ONE["a"], "shape": [-2]}}, b"12345678", None, "'a' is damaged"),
        ({"a": {**ONE["a"], "shape": [True]}}, b"12345678", None, "'a' is damaged"),
        ({"a": {**ONE["a"], "shape": [1 << 40] * 3}}, b"12345678", None, "'a' has not the size"),
        ({"a": {**ONE["a"], "shape": [2] * 10_000}}, b"12345678", None, "'a' is damaged"),
        ({**ONE, "b": ONE["a"]}, b"12345678", None, "overlap"),
        ({**ONE, "b": {"dtype": "U8", "shape": [1], "data_offsets": [10, 11]}}, b"12345678901", None, "gaps"),
    ],
)
def test_hostile_headers_are_refused(header: object, data: bytes, length: int | None, text: str, tmp_path: Path) -> None:
    path = with_header(tmp_path / "w.safetensors", header, data, length)
    with pytest.raises(CheckpointError, match="is not a safetensors file") as caught:
        read_header(path)
    assert text in str(caught.value) and len(str(caught.value)) < 400


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch executed",)


def test_pickles_that_would_run_code_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Payload()}, tmp_path / "zip.pt")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps({"a": Payload()}, protocol=2))
    for name in ("zip.pt", "bare.pt"):
        with pytest.raises(CheckpointError, match="not only weights, and was not opened"):
            read_header(tmp_path / name)
    assert not (tmp_path / "executed").exists()


def test_other_files_under_a_weights_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.pt").touch()
    (tmp_path / "text.pt").write_text("hello, hello, hello")
    with zipfile.ZipFile(tmp_path / "zip.pt", "w") as archive:
        archive.writestr("a.txt", "hello")
    torch.save([STATE["a"]], tmp_path / "list.pt")
    torch.save(STATE, tmp_path / "cut.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "cut.pt").read_bytes()[:-200])
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(CheckpointError) as caught:
            read_header(path)
        assert str(path) in str(caught.value) and len(str(caught.value)) < 700
    save_file(STATE, tmp_path / "w.safetensors")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="beside the weights, cannot be read"):
        read_header(tmp_path / "w.safetensors")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="neither a file nor a folder"):
        read_header(tmp_path / "pipe")


def test_safetensors_need_no_torch(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "w.safetensors")
    code = (
        f"import sys; from ctgen.weights_header import read_header; read_header(__import__('pathlib').Path({str(tmp_path)!r}))"
    )
    subprocess.run([sys.executable, "-c", f"{code}; assert 'torch' not in sys.modules"], check=True)
