"""label-cnn as a classifier that recipes train, and as the extractor that scores generated volumes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ctgen_baseline.label_cnn import LabelCnn
from ctgen_baseline.label_cnn_config import LabelCnnConfig, LabelCnnFeaturesConfig
from ctgen_baseline.label_cnn_features import LabelCnnFeatures
from safetensors.torch import save_file

from ctgen.bench.reading import load_protocol
from ctgen.data.labels import LABELS
from ctgen.errors import CheckpointError, ConfigError
from ctgen.host import Host
from ctgen.interfaces import HasLabels, HasText, PlaceClassifier, Sizes
from ctgen.testing import MemorySource, check_classifier, check_feature_extractor, check_objective, phantom
from ctgen.train.volume_labels import VolumeLabels
from ctgen.train.volume_labels_config import VolumeLabelsConfig
from ctgen.volume import Volume
from ctgen.volume.resample import crop_or_pad, resample

HOST = Host.discover()
SMALL = {"widths": (8, 16, 24), "residuals": (0, 1, 2), "size": (24, 24, 32)}
SHAPE = (26, 24, 37)


def build(**fields) -> LabelCnn:
    torch.manual_seed(3)
    return LabelCnn(LabelCnnConfig(**{**SMALL, **fields})).eval()


def stored(model: LabelCnn, path: Path, dtype: torch.dtype = torch.float32) -> Path:
    save_file({name: value.to(dtype) for name, value in model.state_dict().items()}, path, model.file_metadata())
    return path


def test_it_is_a_classifier_that_tells_places_and_the_objective_trains():
    model = build()
    assert isinstance(model, PlaceClassifier)
    check_classifier(model, size=SHAPE)
    objective = VolumeLabels(VolumeLabelsConfig(mask_weight=1.0, shift_voxels=(1, 2, 2)), components={"classifier": model})
    check_objective(objective, MemorySource(size=SHAPE), tolerance=1e-5)


def test_the_default_is_small_and_has_levels_at_strides_4_8_and_16():
    with torch.device("meta"):
        model = LabelCnn(LabelCnnConfig())
    assert sum(parameter.numel() for parameter in model.parameters()) < 1_900_000
    assert [grid.cell for grid in model.token_grids((96, 112, 112))] == [(4, 4, 4), (8, 8, 8), (16, 16, 16)]


def test_larger_volumes_are_cropped_evenly_and_smaller_ones_refused():
    model = build()
    volume = torch.randn(1, 1, *SHAPE) * 200
    with torch.no_grad():
        assert torch.equal(model(volume), model(volume[:, :, 1:25, :, 2:34]))
    with pytest.raises(ConfigError, match=r"reads \(24, 24, 32\) voxels \(D, H, W\), the volume has \(8, 24, 37\)"):
        model(volume[:, :, :8])


def test_what_is_said_of_a_part_is_about_that_part_and_hears_from_the_coarser_levels():
    model = build()
    volume = torch.full((1, 1, *SHAPE), -1000.0)
    changed = volume.clone()
    changed[0, 0, 1 + 4 * 2 : 1 + 4 * 3, 4 * 4 : 4 * 5, 2 + 4 * 6 : 2 + 4 * 7] = 400.0
    with torch.no_grad():
        (before, coarse), (after, _) = (model.classify_places(one)[1] for one in (volume, changed))
    assert before.shape == (1, 6, 6, 8, 18)
    assert coarse.shape == (1, 3, 3, 4, 18)
    moved = (after - before).abs().sum(-1)[0]
    most = torch.unravel_index(moved.argmax(), moved.shape)
    assert all(abs(int(at) - there) <= 1 for at, there in zip(most, (2, 4, 6), strict=True))
    # the convolutions of stride 4 reach three parts far, what they hear from stride 8 the whole small volume
    assert moved[0, 0, 0] > 0
    with torch.no_grad():
        for layer in model.finer:
            layer.weight.zero_()
        moved = (model.classify_places(changed)[1][0] - model.classify_places(volume)[1][0])[0].abs().sum(-1)
    # group norms carry a trace of every part into the others
    assert moved[0, 0, 0] < 0.2 * moved.max()


def test_a_label_is_read_from_the_likeliest_part_of_its_own_maps_alone():
    model = build()
    volume = torch.stack([torch.from_numpy(phantom(SMALL["size"], seed=seed).hu).float() for seed in (1, 2)])[:, None]
    with torch.no_grad():
        logits, places = model.classify_places(volume)
        maxima = [level.amax((1, 2, 3)) for level in places]
        wanted = sum(scale * most for scale, most in zip(model.scale, maxima, strict=True)) + model.offset
        assert torch.allclose(logits, wanted, atol=1e-6)
        for level in model.places:
            level.weight[4] *= -1
        changed = (model(volume) - logits).abs().amax(0)
    assert changed[4] > 1e-3
    assert changed[[label for label in range(18) if label != 4]].max() == 0


def test_windows_spread_hu_and_clip_what_is_outside():
    model = build(windows=((-200.0, 300.0),))
    volume = torch.full((1, 1, *SMALL["size"]), -900.0)
    with torch.no_grad():
        assert torch.equal(model(volume), model(volume - 100))
        assert not torch.equal(model(volume + 950), model(volume + 900))


def test_half_precision_hardly_changes_the_logits_which_stay_float32():
    model = build()
    volume = torch.stack([torch.from_numpy(phantom(SMALL["size"], seed=seed).hu).float() for seed in (1, 2)])[:, None]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = model(volume)
    assert half.dtype == torch.float32
    assert (half - model(volume)).abs().max() < 0.05


def test_config_says_what_does_not_fit():
    with pytest.raises(ValueError, match="3 widths need 3 residuals, found 2"):
        LabelCnnConfig(**{**SMALL, "residuals": (1, 1)})
    with pytest.raises(ValueError, match="H = 20 is not a multiple of the stride 8"):
        LabelCnnConfig(**{**SMALL, "size": (24, 20, 32)})
    with pytest.raises(ValueError, match="D = 16 leaves 2 slices at the last stride"):
        LabelCnnConfig(**{**SMALL, "size": (16, 24, 32)})
    LabelCnnConfig(**{**SMALL, "size": (16, 24, 32), "residuals": (0, 1, 0)})
    with pytest.raises(ValueError, match="low before high"):
        LabelCnnConfig(**SMALL, windows=((0.0, -5.0),))
    sizes = Sizes(volume=(96, 64, 112), latent=None, text=None, grid=(96, 64, 112), block=1)  # type: ignore[arg-type]
    assert [message for _, message in LabelCnnConfig().check(sizes)] == [
        "112 voxels along H are read, a prepared volume has 64"
    ]


def test_weights_come_back_and_others_are_refused(tmp_path):
    model = build()
    path = stored(model, tmp_path / "labels.safetensors")
    again = build(weights=str(path))
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    assert again.weights.label == "FILE"
    with pytest.raises(CheckpointError, match=r"does not fit; .*layers\.2\.weight: file \(24, .*config \(32, "):
        build(weights=str(path), widths=(8, 16, 32))
    with pytest.raises(CheckpointError, match=r"spacing_mm: file \[3.0, 3.0, 3.0\], config \[2.0, 3.0, 3.0\]"):
        build(weights=str(path), spacing_mm=(2.0, 3.0, 3.0))
    other = tmp_path / "other.safetensors"
    save_file(dict(model.state_dict()), other)
    with pytest.raises(CheckpointError, match="does not say label-cnn's sizes"):
        LabelCnnFeatures(LabelCnnFeaturesConfig(weights=str(other)))
    other.write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        build(weights=str(other))


def test_the_extractor_finds_labels_and_reads_nothing(tmp_path):
    model = build()
    extractor = LabelCnnFeatures(LabelCnnFeaturesConfig(weights=str(stored(model, tmp_path / "labels.safetensors"))))
    assert isinstance(extractor, HasLabels) and not isinstance(extractor, HasText)
    check_feature_extractor(extractor)
    volume = phantom(SHAPE, (3.0, 3.0, 3.0), seed=1)
    seen = torch.from_numpy(volume.hu).float()[None, None]
    with torch.no_grad():
        wanted = model(seen).sigmoid()[0].tolist()
    assert list(extractor.labels(volume).values()) == pytest.approx(wanted, abs=1e-5)
    assert list(extractor.labels(volume)) == list(LABELS)
    assert extractor.features(volume).shape == (1, extractor.width) == (1, 48)
    described = extractor.describe()
    assert described["weights"]["source"] == "labels.safetensors"
    assert described["preprocessing"]["size"] == [24, 24, 32]


def test_volumes_of_another_grid_are_brought_to_the_networks(tmp_path):
    extractor = LabelCnnFeatures(LabelCnnFeaturesConfig(weights=str(stored(build(), tmp_path / "labels.safetensors"))))
    volume = phantom(SHAPE, (3.0, 3.0, 3.0), seed=1)
    fine = Volume.canonical(np.repeat(np.repeat(volume.hu, 2, axis=1), 2, axis=2), (3.0, 1.5, 1.5))
    coarse = resample(fine, (3.0, 3.0, 3.0), floor_hu=-1024)
    assert coarse.shape == SHAPE
    assert np.array_equal(extractor.features(fine), extractor.features(coarse))
    turned = Volume(volume.hu[:, ::-1, ::-1].copy(), volume.affine @ _turn(volume.hu.shape))
    assert np.array_equal(extractor.features(turned), extractor.features(Volume(volume.hu, volume.affine)))
    # smaller than what is read: air around it
    small = crop_or_pad(volume, (10, 20, 30), fill_hu=-1000.0)
    padded = crop_or_pad(small, SMALL["size"], fill_hu=-1000.0)
    assert np.array_equal(extractor.features(small), extractor.features(padded))


def _turn(shape):
    """Voxel indices of a volume whose rows and columns lie reversed -> those of the volume."""
    turn = np.diag([1.0, -1.0, -1.0, 1.0])
    turn[1:3, 3] = shape[1] - 1, shape[2] - 1
    return turn


def test_random_weights_measure_nothing():
    with pytest.raises(ConfigError, match="measure nothing"):
        HOST.configure("feature_extractor", "label-cnn", weights="random")


def test_the_shipped_weights_find_what_simulated_chests_have():
    """Cases that nothing was trained on: an effusion and a large heart are always scored above their absence."""
    data = HOST.create(
        "dataset", "atlas-thorax", cases=10, seed=90211, valid_fraction=0, kinds=["pleural_effusion", "cardiomegaly"]
    )
    extractor = HOST.create("feature_extractor", "label-cnn")
    assert extractor.weights.label == "MINI"
    cases = [data[index] for index in range(len(data))]
    scores = [extractor.labels(case.volume) for case in cases]
    for label in ("Pleural effusion", "Cardiomegaly"):
        present = [score[label] for score, case in zip(scores, cases, strict=True) if case.labels[label]]
        absent = [score[label] for score, case in zip(scores, cases, strict=True) if not case.labels[label]]
        assert present and absent, "the seed must give both"
        assert min(present) > max(absent), label


def test_the_protocol_asks_it_for_labels():
    protocol = load_protocol("ctgen-mini-labels", HOST)
    assert protocol.missing == ()
    assert protocol.extractors["labels"].config == LabelCnnFeaturesConfig()
    assert {"label-faithfulness", "text-gap"} <= set(protocol.metrics)


RECIPE = """\
name: small-labels
data:
  {use: atlas-thorax, cases: 8, seed: 5, size: [24, 24, 24], spacing_mm: [12, 14, 14], valid_fraction: 0.5, masks: true}
prepare: {size: [24, 16, 16], spacing_mm: [12.0, 16.0, 16.0], min_lung_fraction: 0}
classifier: {use: label-cnn, widths: [8, 16, 16], residuals: [0, 1, 1], size: [24, 16, 16], spacing_mm: [12, 16, 16]}
objective: {use: volume-labels, mask_weight: 1.0, shift_voxels: [1, 1, 1]}
train: {steps: 3, batch: 2, checkpoint_every: 3, log_every: 1, precision: bf16, ema_decay: 0.5}
"""


def test_a_recipe_trains_it_and_its_weights_are_shipped_and_score_volumes(tmp_path):
    ship_weights = pytest.importorskip("ctgen_ctflow.ship_weights")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    command = [sys.executable, "-m", "ctgen", "run", str(recipe), "--run-dir", str(tmp_path / "run")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    stages = {path.name.partition("-")[0]: path for path in (tmp_path / "run").iterdir() if path.is_dir()}
    assert set(stages) == {"prepare", "train", "report"}
    rows = [json.loads(line) for line in (stages["train"] / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {"labels", "places0", "places1", "valid_loss", "valid_auroc"} <= set(rows[-1])
    assert "classifier" in (stages["report"] / "report.html").read_text(encoding="utf-8")

    target = tmp_path / "label_cnn.safetensors"
    shipped = ship_weights.ship(stages["train"], target, hardware="2 cores", recipe_path=recipe)
    card = shipped.card.read_text(encoding="utf-8")
    assert "it knows how the simulator draws findings" in card
    assert "classifier: `label-cnn` (baseline)" in card
    assert "valid_auroc" in card
    extractor = HOST.create("feature_extractor", "label-cnn", weights=str(target))
    assert extractor.network.config.spacing_mm == (12.0, 16.0, 16.0)
    assert len(extractor.labels(phantom((24, 16, 16), (12.0, 16.0, 16.0)))) == 18
