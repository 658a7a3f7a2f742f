"""CT-Net on random weights: its layout, what it is shown, and its trunk against another implementation of ResNet-18."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import ResNetConfig, ResNetModel

from ctgen.errors import CheckpointError, MissingFileError
from ctgen.evaluate.extractors.configs import CtNetConfig
from ctgen.evaluate.extractors.ct_net import CtNet, CtNetNetwork
from ctgen.evaluate.extractors.resnet18 import resnet18
from ctgen.testing import check_feature_extractor, phantom
from ctgen.volume import Volume


class Small(CtNet):
    shape = (6, 192, 192)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """As the challenge's: saved from data-parallel training, with the optimiser beside it, and no suffix."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = CtNetNetwork(2, 192)
    path = tmp_path_factory.mktemp("ct-net") / "CTNet28"
    params = {f"module.{name}": value for name, value in network.state_dict().items()}
    torch.save({"params": params, "optimizer": {"state": {}, "param_groups": [{"lr": 0.001}]}}, path)
    return path


def test_it_conforms_and_takes_any_volume(file):
    extractor = Small(CtNetConfig(weights=str(file)))
    check_feature_extractor(extractor, volumes=[phantom((9, 40, 36), (3.0, 6.0, 6.0), seed=seed) for seed in (1, 2)])
    features = extractor.features(phantom((9, 40, 36), (3.0, 6.0, 6.0)))
    assert features.shape == (1, 96) and features.min() >= 0
    one_by_one = Small(CtNetConfig(weights=str(file), batch=1)).features(phantom((9, 40, 36), (3.0, 6.0, 6.0)))
    np.testing.assert_allclose(one_by_one, features, rtol=1e-4, atol=1e-6)


def test_the_full_network_has_the_checkpoints_layout():
    with torch.device("meta"):
        state = CtNetNetwork(CtNet.shape[0] // 3, CtNet.shape[1]).state_dict()
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    for name, shape in {
        "features.0.weight": (64, 3, 7, 7),
        "features.5.0.downsample.0.weight": (128, 64, 1, 1),
        "features.7.1.bn2.running_var": (512,),
        "reducingconvs.0.weight": (64, 134, 3, 3, 3),
        "reducingconvs.4.weight": (16, 32, 3, 2, 2),
        "classifier.0.weight": (128, 16 * 18 * 5 * 5),
        "classifier.3.weight": (96, 128),
        "classifier.6.weight": (18, 96),
    }.items():
        assert shapes[name] == shape
    assert "features.4.0.downsample.0.weight" not in shapes


def test_what_it_is_shown(file):
    hu = np.full((6, 192, 192), -1000, np.int16)
    hu[3:, :96] = 1500
    pictures = Small(CtNetConfig(weights=str(file))).pictures(Volume.canonical(hu, (1.0, 1.0, 1.0)))
    assert pictures.shape == (2, 3, 192, 192)
    # three slices are one picture; x is the first axis of a picture, y the second; above 200 HU all is 1
    assert pictures[0].unique().tolist() == [pytest.approx(-0.449)]
    assert pictures[1, :, :, :96].unique().tolist() == [pytest.approx(1 - 0.449)]
    assert pictures[1, :, :, 96:].unique().tolist() == [pytest.approx(-0.449)]


def test_values_are_clipped_before_the_volume_is_resized_and_windowed_after(file):
    hu = np.full((3, 4, 4), -3000, np.int16)
    hu[1] = 3000
    pictures = Small(CtNetConfig(weights=str(file))).pictures(Volume.canonical(hu, (1.0, 1.0, 1.0)))
    # slices lie at 0.25 steps of a half: 1/4 of the way from -1000 to 1000 is -500 HU
    assert pictures[0, 1, 0, 0] == pytest.approx((-500 + 1000) / 1200 - 0.449, abs=1e-5)


def test_the_trunk_is_resnet_18():
    config = ResNetConfig(embedding_size=64, hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        theirs, ours = ResNetModel(config).eval(), resnet18().eval()
    names = {"embedder.embedder.convolution": "0", "embedder.embedder.normalization": "1"}
    for stage in range(4):
        for layer in range(2):
            before, after = f"encoder.stages.{stage}.layers.{layer}", f"{stage + 4}.{layer}"
            for part, (conv, norm) in {
                "layer.0": ("conv1", "bn1"), "layer.1": ("conv2", "bn2"), "shortcut": ("downsample.0", "downsample.1"),
            }.items():  # fmt: skip
                names |= {
                    f"{before}.{part}.convolution": f"{after}.{conv}",
                    f"{before}.{part}.normalization": f"{after}.{norm}",
                }
    state = {
        f"{names[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": value for name, value in theirs.state_dict().items()
    }
    ours.load_state_dict(state)
    pictures = torch.randn(2, 3, 70, 70)
    with torch.no_grad():
        torch.testing.assert_close(ours(pictures), theirs(pictures).last_hidden_state)


def test_a_file_that_is_cut_off_or_another_is_refused(file, tmp_path):
    with pytest.raises(MissingFileError, match="ct-net") as caught:
        CtNet(CtNetConfig(weights=str(tmp_path / "none")))
    assert "VLM3D" in caught.value.hint
    cut = tmp_path / "cut"
    cut.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="cannot be read"):
        Small(CtNetConfig(weights=str(cut))).network  # noqa: B018
    with pytest.raises(CheckpointError, match="of another shape"):
        CtNet(CtNetConfig(weights=str(file))).network  # noqa: B018
