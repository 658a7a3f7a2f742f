"""CT-CLIP whole: parity with the reference's outputs and with a spelled-out second implementation at other sizes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import ct_clip_reference as reference
import pytest
import torch
from ctflow_fixtures import tensors
from ctgen_ctflow.ct_clip import CtClip
from ctgen_ctflow.ct_clip_config import CtClipConfig
from ctgen_ctflow.ct_clip_sizes import PUBLISHED, CtClipSizes, ImageSizes, TextSizes
from ctgen_ctflow.ct_clip_text import CtClipText, TruncationWarning
from ctgen_ctflow.ct_vit import CtVit

from ctgen.interfaces import Prompt, Report

OTHERS = (
    (
        CtClipSizes(TextSizes(1, 128, 2, 80, 40, 1164), ImageSizes(24, 1, 2, 3, 8, 64, 50, 4, 3, 3), 16),
        (2, 1, 12, 12, 12),
    ),
    (
        CtClipSizes(TextSizes(3, 64, 1, 32, 24, 1164), ImageSizes(20, 2, 1, 2, 6, 53, 31, 2, 5, 4), 10),
        (3, 1, 10, 8, 8),
    ),
)
TEXTS = ("Cardiomegaly is present.", "No pleural effusion was seen in the right and left lung.", "")


@pytest.fixture(scope="module")
def clip_folder(shared_folder: Path) -> Path:
    return shared_folder / "fixtures" / "ct-clip"


@pytest.fixture(scope="module")
def published(clip_folder: Path) -> CtClip:
    return CtClip.load(clip_folder / "CT-CLIP_tiny.pt", vocabulary=clip_folder / "tokenizer", text_heads=4)


@pytest.fixture(params=range(len(OTHERS)))
def other(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[CtClip, dict[str, torch.Tensor], torch.Tensor]:
    """A random checkpoint of another size in the published layout, loaded without being told its sizes."""
    sizes, shape = OTHERS[request.param]
    state = reference.random_checkpoint(sizes, seed=request.param)
    torch.save(state, tmp_path / "CT-CLIP_other.pt")
    model = CtClip.load(tmp_path / "CT-CLIP_other.pt", vocabulary="mini")
    assert model.sizes == sizes
    return model, state, torch.rand(shape, generator=torch.Generator().manual_seed(9)) * 2 - 1


@torch.no_grad()
def test_parity_with_ct_clip(published: CtClip, clip_folder: Path) -> None:
    io = tensors(clip_folder / "io.safetensors")
    tower = published.image_transformer
    assert (tower.patch_embedding(io["volume"]) - io["mid_patch_tokens"]).abs().max() < 1e-5
    assert (tower.position_bias(2) - io["spatial_attn_bias"]).abs().max() < 1e-6
    peg = tower.temporal.blocks[0].neighbours(io["mid_temporal_peg0_in"], (1, 2, 2, 2))
    assert (peg - io["mid_temporal_peg0_out"]).abs().max() < 1e-6
    tokens = tower.continuous(io["volume"])
    assert (tokens.flatten(1, 3) - io["vq_in"]).abs().max() < 1e-5
    assert torch.equal(tower.codes(tokens).flatten(1), io["vq_indices"])
    assert torch.equal(tower(io["volume"]), io["visual_tokens"]), "rows of the codebook as they are, not of unit length"
    images = published.encode_image(io["volume"])
    texts = published.encode_reports(
        [Report(text) for text in json.loads((clip_folder / "fixture.json").read_text())["text"]["reports_raw"]]
    )
    assert (images - io["image_latent"]).abs().max() < 1e-5
    assert (texts - io["text_latent"]).abs().max() < 1e-5
    assert (published.similarity(texts, images)[:, 0] - io["similarity"]).abs().max() < 1e-5
    padded = published.text_latents(io["input_ids"], io["attention_mask"]).detach()
    assert (padded - io["text_latent"]).abs().max() < 1e-5, "padded to 512 as in the reference"


def test_parity_at_other_sizes(other: tuple[CtClip, dict[str, torch.Tensor], torch.Tensor]) -> None:
    model, state, volumes = other
    ids, mask = model.vocabulary(TEXTS)
    expected = reference.text_latents(state, ids, mask, model.sizes.text.heads)
    assert (model.encode_text(TEXTS) - expected).abs().max() < 1e-5
    expected = reference.image_latents(state, volumes, model.sizes)
    found = model.encode_image(volumes)
    assert (found - expected).abs().max() < 1e-5
    assert (expected[0] - expected[1]).abs().max() > 1e-2, "two volumes, two latents"
    alone = torch.cat([model.encode_image(volume[None]) for volume in volumes])
    assert (alone - found).abs().max() < 1e-6, "the batch has no influence"


def test_the_published_file_is_this_large() -> None:
    shapes = reference.published_shapes(PUBLISHED)
    del shapes["text_transformer.embeddings.position_ids"]
    assert (len(shapes), sum(map(math.prod, shapes.values()))) == (361, 442_360_474)
    with torch.device("meta"):
        tower = CtVit(PUBLISHED.image)
        assert tower.continuous(torch.empty(2, 1, 240, 480, 480)).shape == (2, 24, 24, 24, 512)
    assert sum(parameter.numel() for parameter in tower.parameters()) == 27_621_192


def test_the_table_of_shapes_is_that_of_the_published_layout(clip_folder: Path) -> None:
    tiny = json.loads((clip_folder / "fixture.json").read_text())["checkpoint_tensors"]
    sizes = CtClipSizes(TextSizes(2, 48, 4, 96, 512, 221), ImageSizes(32, 2, 1, 4, 16, 85, 64, 20, 10, 2), 24)
    assert reference.published_shapes(sizes) == {name: tuple(shape) for name, shape in tiny.items()}


def test_zero_shot_is_a_softmax_over_two_sentences(other: tuple[CtClip, dict[str, torch.Tensor], torch.Tensor]) -> None:
    model, _, volumes = other
    labels = ("Cardiomegaly", "Pleural effusion", "Lung nodule")
    found = model.zero_shot(volumes, labels)
    assert found.shape == (len(volumes), 3)
    images = model.encode_image(volumes)
    for column, label in enumerate(labels):
        yes, no = (model.encode_text([text])[0] for text in (f"{label} is present.", f"{label} is not present."))
        gap = (images @ (yes - no)) * model.temperature.detach().exp()
        assert (found[:, column] - torch.sigmoid(gap)).abs().max() < 1e-5
    assert model.zero_shot(volumes).shape == (len(volumes), 18)
    assert model.encode_text([]).shape == (0, model.sizes.latent)


def test_our_file_comes_back_bit_for_bit(published: CtClip, clip_folder: Path, tmp_path: Path) -> None:
    path = published.save(tmp_path / "clip.safetensors")
    again = CtClip.load(path, vocabulary=clip_folder / "tokenizer")
    assert again.sizes == published.sizes and again.skipped == {} and again.weights.label == "FILE"
    assert all(torch.equal(value, published.state_dict()[name]) for name, value in again.state_dict().items())
    config = CtClipConfig(
        layers=2, width=48, heads=4, feed_forward=96, max_tokens=512, latent=24, template="findings+impression",
        vocabulary=str(clip_folder / "tokenizer"), weights=str(path),
    )  # fmt: skip
    report = Report("Trachea and both main bronchi are open.", "Not given.")
    with torch.no_grad():
        latent = CtClipText(config).latents([Prompt(report)])
    assert (latent - published.encode_reports([report])).abs().max() < 1e-6


def test_half_precision_files_are_read_in_float32(published: CtClip, clip_folder: Path, tmp_path: Path) -> None:
    state = torch.load(clip_folder / "CT-CLIP_tiny.pt", weights_only=True)
    halved = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    torch.save(halved, tmp_path / "half.pt")
    model = CtClip.load(tmp_path / "half.pt", vocabulary=clip_folder / "tokenizer", text_heads=4)
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32}
    texts = ["No pleural effusion was seen."]
    assert (model.encode_text(texts) - published.encode_text(texts)).abs().max() < 5e-3


def test_wrong_sizes_are_refused(published: CtClip) -> None:
    with pytest.raises(ValueError, match=r"expected \(B, 1, D, 40, 40\), not \(1, 1, 20, 40, 20\)"):
        published.encode_image(torch.zeros(1, 1, 20, 40, 20))
    with pytest.raises(ValueError, match="15 slices are not a multiple of 10"):
        published.encode_image(torch.zeros(1, 1, 15, 40, 40))


def test_cut_texts_are_warned_of_once_and_counted(tmp_path: Path) -> None:
    sizes, _ = OTHERS[0]
    torch.save(reference.random_checkpoint(sizes, seed=0), tmp_path / "clip.pt")
    model = CtClip.load(tmp_path / "clip.pt", vocabulary="mini")
    long = "pleural effusion " * 30
    with pytest.warns(TruncationWarning, match=r"1 of 2 texts were cut to 40 tokens \(the longest has 62\)") as caught:
        model.encode_text(["Normal.", long])
        model.encode_text([long])
    assert len(caught) == 1
    assert (model.counts.texts, model.counts.cut, model.counts.longest, model.counts.unknown) == (3, 2, 62, 0)
