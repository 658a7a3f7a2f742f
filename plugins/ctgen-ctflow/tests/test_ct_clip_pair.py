"""The pair as a component: what it is trained to is read by ct-clip and by CtClip.load, and gives the same numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from ctgen_ctflow.ct_clip import CtClip
from ctgen_ctflow.ct_clip_config import CtClipConfig
from ctgen_ctflow.ct_clip_describe import describe
from ctgen_ctflow.ct_clip_pair import CtClipPair
from ctgen_ctflow.ct_clip_pair_config import CtClipPairConfig, ImageTowerConfig
from ctgen_ctflow.ct_clip_sizes import PUBLISHED, CtClipSizes
from ctgen_ctflow.ct_clip_text import CtClipText
from ctgen_ctflow.ct_vit import CtVit
from ctgen_ctflow.ship_weights import ship
from pydantic import ValidationError
from safetensors.torch import save_file

from ctgen.errors import CheckpointError, ConfigError
from ctgen.interfaces import PairEncoder, PlaceEncoder, Prompt, Report, Sizes
from ctgen.recipe import load_recipe
from ctgen.stages import run
from ctgen.testing import MemorySource, check_objective, check_text_encoder, phantom
from ctgen.train.contrastive import Contrastive
from ctgen.train.contrastive_config import ContrastiveConfig

WINDOWS = ((-1000.0, -300.0), (-200.0, 300.0))
IMAGE = {"width": 16, "spatial_layers": 1, "temporal_layers": 1, "heads": 2, "head_width": 8, "feed_forward": 24, "codes": 12}
SMALL = {**IMAGE, "patch": 8, "patch_slices": 8, "grid": 2, "slices": 16, "spacing_mm": (3.0, 2.0, 2.0)}
OURS = {**SMALL, "windows": WINDOWS, "stem": (6, 8), "quantised": False, "pool": "slices+max"}
TEXT = {"layers": 1, "width": 32, "heads": 2, "feed_forward": 48, "max_tokens": 64, "latent": 12, "weights": "random"}


def build(**image) -> CtClipPair:
    torch.manual_seed(3)
    return CtClipPair(CtClipPairConfig(**TEXT, image=ImageTowerConfig(**{**OURS, **image})))


def stored(model: CtClipPair, path: Path) -> Path:
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path, model.file_metadata())
    return path


@pytest.mark.parametrize(
    "image", [{}, {"stem_start": 4}, {"stem": ()}, {"windows": ()}, {"pool": "slices"}, {"stem_residuals": 2}]
)
def test_one_file_serves_the_pair_the_text_encoder_and_the_scores(tmp_path, image):
    model = build(**image)
    path = stored(model, tmp_path / "pair.safetensors")
    again = CtClipPair(model.config.model_copy(update={"weights": str(path)}))
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    assert again.weights.label == "FILE"

    text = CtClipText(CtClipConfig(**{**TEXT, "latent": None, "weights": str(path)}))
    prompt = Prompt(Report("Pleural effusion on the left side."), 16)
    assert torch.equal(text.encode([prompt]).pooled, model.encode([prompt]).pooled)
    assert any(name.startswith("image_transformer.") for name in text.skipped)

    whole = CtClip.load(path, vocabulary="mini")
    volume = phantom((16, 16, 16), (3.0, 2.0, 2.0), seed=1)
    seen = whole.encode_image(whole.prepare(volume)[None])
    mine = model.embed_volumes(torch.from_numpy(volume.hu).float()[None, None])
    assert torch.allclose(seen, mine, atol=1e-5)
    assert torch.allclose(whole.encode_text(["No nodule."]), model.embed_texts(["No nodule."]), atol=1e-6)
    assert whole.zero_shot(whole.prepare(volume)[None]).shape == (1, 18)
    assert "no codebook" in " ".join(describe(path).lines())


def test_volumes_of_another_grid_are_resampled_for_the_scores(tmp_path):
    whole = CtClip.load(stored(build(), tmp_path / "pair.safetensors"), vocabulary="mini")
    assert whole.prepare(phantom((30, 20, 24), (1.5, 2.0, 2.0), seed=1)).shape == (1, 16, 16, 16)


def test_larger_volumes_are_cropped_evenly_and_smaller_ones_refused():
    model = build()
    volume = torch.randn(1, 1, 18, 20, 16) * 200
    assert torch.equal(model.embed_volumes(volume), model.embed_volumes(volume[:, :, 1:17, 2:18]))
    with pytest.raises(ConfigError, match=r"reads \(16, 16, 16\) voxels"):
        model.embed_volumes(volume[:, :, :8])


def test_tokens_stand_for_the_parts_of_the_volume_that_their_grid_tells():
    model = build(patch=4, patch_slices=4, grid=4, stem=(5, 6), stem_residuals=1)
    finer, grid = model.token_grids((18, 20, 16))
    assert finer.window == grid.window == (slice(1, 17), slice(2, 18), slice(0, 16))
    assert finer.cell == grid.cell == (4, 4, 4)
    volume = torch.full((1, 1, 18, 20, 16), -1000.0)
    changed = volume.clone()
    changed[0, 0, 1 + 4 * 3 : 1 + 4 * 4, 2 + 4 * 2 : 2 + 4 * 3, 4 * 1 : 4 * 2] = 400.0
    # Before the transformers look around, only the changed part (and what its convolutions reach) differs.
    stem, patches = model.image_transformer.stem, model.image_transformer.patch_embedding
    window = (slice(None), slice(None), *grid.window)
    before, after = (patches(stem(x[window].transpose(3, 4) / 1000)).transpose(2, 3) for x in (volume, changed))
    moved = (after - before).abs().sum(-1)[0]
    most = torch.unravel_index(moved.argmax(), moved.shape)
    assert all(abs(at - there) <= 1 for at, there in zip(most, (3, 2, 1), strict=True))
    latents, (inner, tokens) = model.embed_places(volume)
    assert tokens.shape == (1, 4, 4, 4, 16)
    assert torch.equal(latents, model.embed_volumes(volume))
    assert [level.shape[-1] for level in (inner, tokens)] == list(model.token_channels) == [6, 16]
    moved = (inner - model.embed_places(changed)[1][0]).abs().sum(-1)[0]
    most = torch.unravel_index(moved.argmax(), moved.shape)
    assert all(abs(at - there) <= 1 for at, there in zip(most, (3, 2, 1), strict=True))


def test_a_locked_text_tower_gets_no_gradients_and_the_projections_do():
    model = build()
    model.lock_text()
    texts, volumes = model.embed_texts(["a nodule", "no nodule"]), model.embed_volumes(torch.randn(2, 1, 16, 16, 16) * 200)
    (texts * volumes).sum().backward()
    assert all(parameter.grad is None for parameter in model.text_transformer.parameters())
    assert model.to_text_latent.weight.grad.abs().sum() > 0
    assert model.to_image_latent.weight.grad.abs().sum() > 0


def test_residuals_add_to_what_the_stem_makes():
    plain, deeper = build().image_transformer.stem, build(stem_residuals=2).image_transformer.stem
    deeper.load_state_dict(plain.state_dict(), strict=False)
    volume = torch.randn(1, 1, 16, 16, 16)
    assert len(deeper.residuals[0]) == 2
    assert not torch.allclose(deeper(volume), plain(volume))
    for block in deeper.residuals[0]:
        torch.nn.init.zeros_(block.convolution.weight)
        torch.nn.init.zeros_(block.convolution.bias)
    assert torch.allclose(deeper(volume), plain(volume))


def test_a_text_tower_may_be_taken_from_elsewhere_beside_a_random_image_tower(tmp_path):
    trained = build()
    with torch.no_grad():
        trained.to_text_latent.weight.add_(1.0)
    path = stored(trained, tmp_path / "pair.safetensors")
    config = CtClipPairConfig(**TEXT, text_weights=str(path), image=ImageTowerConfig(**{**OURS, "stem": (6, 8, 10)}))
    model = CtClipPair(config)
    assert torch.equal(model.embed_texts(["A nodule."]), trained.embed_texts(["A nodule."]))
    assert model.weights.label == "FILE" and "image tower RANDOM" in model.weights.source
    assert len(model.weights.sha256) == 64
    with pytest.raises(ValidationError, match="has a text tower of its own"):
        CtClipPairConfig(**{**TEXT, "weights": "mini"}, text_weights="mini")


def test_maxima_of_every_level_of_the_stem_go_into_the_vector():
    model = build(pool="levels+max", stem=(5, 6, 7), patch=8, patch_slices=8, grid=2, stem_first_residuals=1)
    assert model.pools_levels and not build().pools_levels
    tower, volume = model.image_transformer, torch.randn(1, 1, 16, 16, 16)
    vector, levels = tower.embed(volume)
    assert vector.shape == (1, model.image.pooled) == (1, 4 * 16 + 16 + 6 + 7)
    assert torch.equal(vector[:, -7:], levels[1].flatten(1, 3).amax(1))
    assert torch.equal(vector[:, -13:-7], levels[0].flatten(1, 3).amax(1))
    halves = []
    tower.stem.first_residuals[0].register_forward_hook(lambda module, given, out: halves.append(out.shape))
    tower.embed(volume)
    assert halves == [(1, 5, 8, 8, 8)]
    with pytest.raises(ValidationError, match="starts with stride 2"):
        ImageTowerConfig(stem=(4, 8), stem_start=4, stem_first_residuals=1)


def test_places_are_pooled_by_quarters_and_hear_from_coarser_levels():
    model = build(pool="places", stem=(5, 6, 7), patch=8, patch_slices=8, grid=2)
    assert model.pools_levels
    tower, volume = model.image_transformer, torch.randn(1, 1, 16, 16, 16)
    vector, levels = tower.embed(volume)
    assert vector.shape == (1, model.image.pooled) == (1, 9 * (16 + 6 + 7))
    finest, quarter = levels[0], levels[0][:, 2:, :2]
    parts = vector[0, : 9 * 6].reshape(9, 6)
    assert torch.equal(parts[0], finest.flatten(1, 3).amax(1)[0])
    # maxima of the quarters, lower slices first, then along x; their means in the same order
    assert torch.equal(parts[3], quarter.flatten(1, 3).amax(1)[0])
    assert torch.allclose(parts[7], quarter.flatten(1, 3).mean(1)[0], atol=1e-6)
    coarse = tower.finer[1](levels[2])[0, 0, 1, 0]
    assert torch.allclose(levels[1][0, 0, 1, 0], tower.levels(volume)[1][0, 0, 1, 0] + coarse, atol=1e-6)
    with torch.no_grad():
        for says in tower.finer:
            says.weight.zero_()
            says.bias.zero_()
    assert all(torch.equal(mute, own) for mute, own in zip(tower.embed(volume)[1], tower.levels(volume), strict=True))
    with pytest.raises(ValidationError, match="needs a stem"):
        ImageTowerConfig(pool="places")
    with pytest.raises(ValidationError, match="to tell quarters"):
        ImageTowerConfig(pool="places", stem=(4, 8), grid=1)


def test_cells_are_a_convolution_that_does_not_overlap():
    model = build(stem_start=4)
    stem = model.image_transformer.stem
    volume = torch.randn(2, 1, 16, 16, 16)
    parts = [(volume * (2000 / (high - low)) - (high + low) / (high - low)).clamp(-1, 1) for low, high in WINDOWS]
    kernel = stem.cells.weight.reshape(6, 2, 4, 4, 4)
    cells = torch.relu(torch.nn.functional.conv3d(torch.cat(parts, 1), kernel, stem.cells.bias, stride=4))
    by_hand = torch.relu(stem.norms[0](stem.layers[0](cells)))
    assert torch.allclose(stem(volume), by_hand, atol=1e-5)
    assert model.image.stem_stride == 8


def test_a_window_spreads_its_hu_over_the_whole_range():
    model = build(stem=(), windows=((-200.0, 300.0),))
    seen = model.image_transformer.stem(torch.tensor([-1.0, -0.2, 0.05, 0.3, 1.0]).reshape(1, 1, 5, 1, 1)).flatten()
    assert torch.allclose(seen, torch.tensor([-1.0, -1.0, 0.0, 1.0, 1.0]), atol=1e-6)


def test_published_sizes_are_untouched_by_the_additions():
    with torch.device("meta"):
        tower = CtVit(PUBLISHED.image)
    assert tower.stem is None
    assert "codebook" in dict(tower.named_parameters())
    assert PUBLISHED.image.pooled == 24 * 24 * 512
    old = PUBLISHED.as_dict()
    for name in ("slices", "spacing_mm", "windows", "stem", "stem_start", "stem_residuals", "quantised", "pool"):
        old["image"].pop(name)
    assert CtClipSizes.from_dict(json.loads(json.dumps(old))) == PUBLISHED
    assert CtClipSizes.from_dict(json.loads(json.dumps(PUBLISHED.as_dict()))) == PUBLISHED


def test_it_is_a_text_encoder_and_a_pair_encoder_that_the_objective_trains():
    model = build()
    assert isinstance(model, PairEncoder)
    assert isinstance(model, PlaceEncoder)
    check_text_encoder(model)
    objective = Contrastive(ContrastiveConfig(label_weight=0.5), components={"text_encoder": model})
    check_objective(objective, MemorySource(size=(16, 16, 16)), tolerance=1e-5)


def test_half_precision_hardly_changes_the_latents():
    model = build(stem_start=4)
    volume = torch.randn(2, 1, 16, 16, 16) * 400
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = model.embed_volumes(volume).float()
    assert torch.nn.functional.cosine_similarity(half, model.embed_volumes(volume)).min() > 0.99


def test_config_says_what_does_not_fit():
    with pytest.raises(ValueError, match="patch 6 is not a multiple of the stem's stride 4"):
        ImageTowerConfig(**{**OURS, "patch": 6})
    with pytest.raises(ValueError, match="does not divide slices 20"):
        ImageTowerConfig(**{**OURS, "slices": 20})
    with pytest.raises(ValueError, match="low before high"):
        ImageTowerConfig(**{**OURS, "windows": ((0.0, -5.0),)})
    sizes = Sizes(volume=(16, 8, 16), latent=None, text=None, grid=(16, 8, 16), block=1)  # type: ignore[arg-type]
    assert [field for field, _ in build().config.check(sizes)] == ["image"]


def test_weights_of_other_sizes_are_refused(tmp_path):
    path = stored(build(), tmp_path / "pair.safetensors")
    with pytest.raises(CheckpointError, match="does not fit this config"):
        CtClipPair(CtClipPairConfig(**{**TEXT, "weights": str(path)}, image=ImageTowerConfig(**{**OURS, "width": 24})))


RECIPE = """\
name: small-clip
data:
  {use: atlas-thorax, cases: 6, seed: 5, size: [24, 24, 24], spacing_mm: [12, 14, 14], valid_fraction: 0.5, masks: true}
prepare: {size: [16, 16, 16], spacing_mm: [12.0, 16.0, 16.0], min_lung_fraction: 0}
text_encoder:
  use: ct-clip-pair
  layers: 1
  width: 32
  heads: 2
  feed_forward: 48
  max_tokens: 64
  latent: 12
  weights: random
  image: {width: 24, spatial_layers: 1, temporal_layers: 1, heads: 2, head_width: 8, feed_forward: 24, patch: 8, grid: 2,
    slices: 16, spacing_mm: [12.0, 16.0, 16.0], windows: [[-1000, -300]], stem: [6, 8], quantised: false}
objective: {use: contrastive, label_weight: 1.0, mask_weight: 1.0, candidates: 3}
train: {steps: 3, batch: 2, checkpoint_every: 3, log_every: 1}
"""


@pytest.mark.filterwarnings("ignore::ctgen_ctflow.ct_clip_text.TruncationWarning")
def test_a_recipe_trains_it_and_its_weights_are_shipped_in_half_precision(tmp_path):
    (tmp_path / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    recipe = load_recipe(tmp_path / "recipe.yaml")
    done = run(recipe, run_dir=tmp_path / "run")
    assert set(done.folders) == {"prepare", "train", "report"}
    shipped = ship(done.folders["train"], tmp_path / "ct_clip_pair.safetensors", hardware="2 cores", dtype="bfloat16")
    whole = CtClip.load(shipped.weights, vocabulary="mini")
    assert whole.sizes.image.spacing_mm == (12.0, 16.0, 16.0)
    assert whole.prepare(phantom((16, 16, 16), (12.0, 16.0, 16.0))).shape == (1, 16, 16, 16)
    card = shipped.card.read_text(encoding="utf-8")
    assert "its scores mean nothing on other data" in card
    assert "valid_retrieval" in card
