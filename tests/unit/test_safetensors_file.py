"""Equal tensors and metadata are equal bytes, and the library reads them as it always did."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open

from ctgen.atomic import sha256_of
from ctgen.safetensors_file import save_file

TENSORS = {"weight": torch.arange(12.0).reshape(3, 4), "bias": torch.ones(3, dtype=torch.bfloat16), "steps": torch.tensor(7)}


@pytest.mark.parametrize("odd", ["plain", 'quotes " and \\ and \n\t\x01', "Lungenödem 肺 \x7f", ""])
def test_the_order_of_metadata_does_not_matter(tmp_path, odd):
    metadata = {f"key {number}": str(number) for number in range(20)} | {"odd": odd, odd or "-": "key"}
    turned = dict(reversed(metadata.items()))
    for number in range(6):
        save_file(TENSORS, tmp_path / f"{number}.safetensors", metadata=turned if number % 2 else metadata)
    assert len({sha256_of(path) for path in tmp_path.iterdir()}) == 1
    with safe_open(str(tmp_path / "0.safetensors"), "pt") as file:
        assert file.metadata() == metadata
        assert set(file.keys()) == set(TENSORS)
        for name, value in TENSORS.items():
            assert torch.equal(file.get_tensor(name), value)


@pytest.mark.parametrize("metadata", [None, {}])
def test_without_metadata(tmp_path, metadata):
    save_file(TENSORS, tmp_path / "a.safetensors", metadata=metadata)
    with safe_open(str(tmp_path / "a.safetensors"), "pt") as file:
        assert not file.metadata()
        assert torch.equal(file.get_tensor("weight"), TENSORS["weight"])
