"""What is in a checkpoint, told; and files that are not CT-CLIP's, or not safe, refused."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import ct_clip_reference as reference
import pytest
import torch
from ctgen_ctflow.ct_clip import CtClip
from ctgen_ctflow.ct_clip_config import CtClipConfig
from ctgen_ctflow.ct_clip_describe import describe
from ctgen_ctflow.ct_clip_layout import ours
from ctgen_ctflow.ct_clip_sizes import PUBLISHED, CtClipSizes, ImageSizes, TextSizes
from ctgen_ctflow.ct_clip_text import SHIPPED, CtClipText
from safetensors import safe_open
from safetensors.torch import save_file

from ctgen.errors import CheckpointError, MissingFileError

SIZES = CtClipSizes(TextSizes(1, 64, 1, 32, 24, 1164), ImageSizes(20, 1, 1, 2, 6, 53, 31, 2, 5, 4), 10)


class RunsCode:
    """Its pickle makes a folder when it is opened without care."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return reference.random_checkpoint(SIZES, seed=4)


def refused(path: Path, content: object, match: str, **fields: object) -> CheckpointError:
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=match) as caught:
        CtClip.load(path, vocabulary="mini", **fields)
    return caught.value


def test_a_description_names_sizes_precision_and_what_nothing_reads(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "CT-CLIP.pt")
    found = describe(tmp_path / "CT-CLIP.pt")
    assert (found.text, found.image, found.latent) == (SIZES.text, SIZES.image, SIZES.latent)
    assert found.kind == "CT-CLIP, both towers (published layout)" and found.entries == len(state)
    read = [value for name, value in state.items() if name not in found.skipped]
    assert found.values == sum(map(torch.numel, read)) and found.precision == {"float32": found.values}
    assert "text_transformer.embeddings.position_ids" in found.skipped
    assert {"to_text_latent_extra.weight", "to_visual_latent_extra.weight"} <= found.skipped.keys()
    text = "\n".join(found.lines())
    for words in (
        "heads: 1 (assumed, 64 channels each)", "31 codes", "patches of 5 x 2 x 2", "slices of 8 x 8", "float32",
        "to_text_latent_extra.weight and 1 more (unused copy of a projection)", "CtClip.load", "latent: 10",
    ):  # fmt: skip
        assert words in text, words
    fields = found.uses()[0].partition("ct-clip, ")[2].rstrip("}").split(", ")
    config = CtClipConfig(max_tokens=24, weights=str(tmp_path / "CT-CLIP.pt"), **dict(field.split(": ") for field in fields))
    assert CtClipText(config).weights.label == "FILE", "the fields that it shows do load the file"


def test_of_the_published_file_287_million_values_are_read() -> None:
    shapes = reference.published_shapes(PUBLISHED)
    state, skipped = ours({name: torch.empty(shape, device="meta") for name, shape in shapes.items()})
    assert len(state) + len(skipped) == 362
    assert sum(value.numel() for value in state.values()) == 287_901_001


def test_the_shipped_weights_state_their_heads(tmp_path: Path) -> None:
    found = describe(SHIPPED["mini"])
    assert found.text == TextSizes(3, 128, 4, 512, 384, 1164) and found.text_heads == "stated" and found.image is not None
    with pytest.raises(CheckpointError, match="made with 4 heads, config 2"):
        CtClipText(CtClipConfig(heads=2))
    only = tmp_path / "text.safetensors"
    with safe_open(SHIPPED["mini"], framework="pt") as stored:
        text = {name: stored.get_tensor(name) for name in stored.keys() if name.startswith("text_transformer.")}  # noqa: SIM118 - not a dict
        save_file(text, only, metadata={"component": stored.metadata()["component"]})
    with pytest.raises(CheckpointError, match="text tower; scores need both towers"):
        CtClip.load(only, vocabulary="mini")


def test_heads_that_no_tensor_shows_are_asked_for(tmp_path: Path) -> None:
    sizes = CtClipSizes(TextSizes(1, 48, 4, 32, 24, 1164), SIZES.image, SIZES.latent)
    error = refused(
        tmp_path / "clip.pt", reference.random_checkpoint(sizes, 1), "48 wide, and its number of heads is in no tensor"
    )
    assert "text_heads" in error.hint
    assert CtClip.load(tmp_path / "clip.pt", vocabulary="mini", text_heads=4).sizes == sizes
    assert "heads: ? (in no tensor)" in "\n".join(describe(tmp_path / "clip.pt").lines())


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(zipped: bool, tmp_path: Path) -> None:
    trap, path = tmp_path / "trap", tmp_path / "CT-CLIP_v2.pt"
    if zipped:
        torch.save({"temperature": RunsCode(trap)}, path)
    else:
        path.write_bytes(pickle.dumps({"temperature": RunsCode(trap)}, protocol=2))
    with pytest.raises(CheckpointError, match=r"cannot be read safely: it is a pickle that asks for the code .*mkdir"):
        CtClip.load(path, vocabulary="mini")
    assert not trap.exists()


def test_files_of_others_are_named(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path, one = tmp_path / "other.pt", torch.zeros(2, 2)
    refused(path, {"model": state, "step": 3}, r"2 of its 2 entries are no tensors \(model, step\); .*training checkpoint")
    refused(path, [one], "holds a list")
    refused(path, {"bert.embeddings.word_embeddings.weight": one}, "1 tensors look like a BERT of Hugging Face")
    refused(path, {f"module.{name}": value for name, value in state.items()}, "DistributedDataParallel")
    refused(path, {"model.x_embedder.proj.weight": one}, "CTFlow's released backbone")
    refused(path, {"something": one}, "nothing known: something")
    path.write_bytes(b"neither zip nor pickle")
    with pytest.raises(CheckpointError, match="cannot be read"):
        CtClip.load(path, vocabulary="mini")
    with pytest.raises(MissingFileError, match="looked for"):
        CtClip.load(tmp_path / "nowhere.pt", vocabulary="mini")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="0 weight files"):
        CtClip.load(tmp_path / "empty", vocabulary="mini")


def test_misfits_are_counted_and_the_first_named(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "clip.pt"
    at = "visual_transformer.enc_temporal_transformer.layers.0."
    damaged = {name: value for name, value in state.items() if not name.startswith(f"{at}3.")}
    damaged[f"{at}1.to_q.weight"] = torch.zeros(3, 20)
    error = refused(path, damaged, r"5 tensors differ:\n")
    assert "temporal.blocks.0.attention.query.weight: file 3x20, config 12x20" in str(error)
    assert "temporal.blocks.0.feed_forward.down.weight: file absent, config 20x53" in str(error)
    refused(path, {**state, f"{at}1.null_kv": torch.zeros(2, 1, 6)}, "null keys")
    refused(path, {name: value for name, value in state.items() if "first_frame" not in name}, "lacks .*first_frame")
    refused(path, {**state, "to_visual_latent.weight": torch.zeros(10, 20 * 15)}, "not made for square")
    refused(path, state, "5 heads do not divide", text_heads=5)


def test_a_vocabulary_of_another_size_is_refused(tmp_path: Path) -> None:
    sizes = CtClipSizes(TextSizes(1, 64, 1, 32, 24, 1165), SIZES.image, SIZES.latent)
    refused(tmp_path / "clip.pt", reference.random_checkpoint(sizes, 1), "has 1164 tokens, .* made with 1165; .* 0% of")


def test_a_file_of_ours_in_safetensors_under_published_names(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "clip.pt")
    save_file(state, tmp_path / "clip.safetensors")
    first, second = (CtClip.load(tmp_path / name, vocabulary="mini") for name in ("clip.pt", "clip.safetensors"))
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())
