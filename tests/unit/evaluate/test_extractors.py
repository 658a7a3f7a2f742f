"""The built-in extractors: hu-stats whole, the networks on tiny stand-ins and random weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ctgen.errors import CheckpointError, DataError, MissingFileError
from ctgen.evaluate.extractors.configs import HuStatsConfig, I3dConfig, InceptionConfig, RadImageNetConfig
from ctgen.evaluate.extractors.hu_stats import HuStats
from ctgen.evaluate.extractors.radimagenet import RadImageNet
from ctgen.evaluate.extractors.resnet50 import ResNet50
from ctgen.evaluate.extractors.torchscript import I3d, Inception
from ctgen.testing import check_feature_extractor, phantom
from ctgen.volume import Volume


class ImageNet(nn.Module):
    """Called as the Inception file is; shows in its features what it was given."""

    def forward(self, img: Tensor, return_features: bool = False, no_output_bias: bool = False) -> Tensor:
        assert img.ndim == 4 and img.shape[1] == 3
        moments = torch.stack([img.mean(dim=(1, 2, 3)), img.amax(dim=(1, 2, 3)), img[:, 0].std(dim=(1, 2))], dim=1)
        if return_features:
            return moments.repeat(1, 683)[:, :2048]
        bias = torch.tensor([0.0 if no_output_bias else 5.0, 0.0, 0.0], device=img.device)
        return (moments / 100 + bias).softmax(dim=1)


class VideoNet(nn.Module):
    """Called as the I3D file is."""

    def forward(self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False) -> Tensor:
        assert rescale and resize and return_features and x.ndim == 5 and x.shape[1] == 3
        frames = x.mean(dim=(1, 3, 4))
        return torch.cat([frames.mean(dim=1, keepdim=True), frames[:, :1], torch.full((1, 1), float(x.shape[2]))], 1).repeat(
            1, 134
        )[:, :400]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    torch.jit.script(ImageNet()).save(folder / "inception.pt")
    torch.jit.script(VideoNet()).save(folder / "i3d.pt")
    return folder


@pytest.fixture(scope="module")
def resnet_file(tmp_path_factory):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ResNet50(keras=True)
    path = tmp_path_factory.mktemp("resnet") / "resnet.safetensors"
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, path)
    return path


@pytest.mark.parametrize("unit", ["slice", "volume"])
def test_hu_stats(unit):
    check_feature_extractor(HuStats(HuStatsConfig(unit=unit)))
    small = phantom((3, 5, 7), (9.0, 9.0, 9.0))
    assert np.isfinite(HuStats(HuStatsConfig(unit=unit)).features(small, "yz")).all()


def test_hu_stats_of_a_volume_notices_shuffled_slices():
    extractor = HuStats(HuStatsConfig(unit="volume"))
    volume = phantom((16, 40, 40), (3.0, 6.0, 6.0))
    shuffled = Volume(np.random.default_rng(0).permutation(volume.hu), volume.affine)
    assert np.abs(extractor.features(volume) - extractor.features(shuffled)).max() > 1e-3


def test_inception_is_called_as_stylegan_calls_it(files):
    config = InceptionConfig(weights=str(files / "inception.pt"), window_hu=(-1000, 1000), batch=5)
    extractor = Inception(config)
    check_feature_extractor(extractor)
    volume = phantom((7, 20, 24), (3.0, 6.0, 6.0))
    wanted = np.rint((np.clip(volume.hu, -1000, 1000) + 1000.0) * (255 / 2000))
    found = extractor.features(volume, "xz")
    assert found.shape == (20, 2048)
    np.testing.assert_allclose(found[:, 0], wanted.mean(axis=(0, 2)), rtol=1e-5)
    np.testing.assert_allclose(np.exp(extractor.logits(volume)).sum(axis=1), 1.0, rtol=1e-5)
    biased = Inception(config.model_copy(update={"output_bias": True})).logits(volume)
    assert biased[0].argmax() == 0 and np.abs(biased - extractor.logits(volume)).max() > 0.5


def test_i3d_shows_the_frames_asked_for(files):
    weights = str(files / "i3d.pt")
    check_feature_extractor(I3d(I3dConfig(weights=weights, frames=16)))
    volume = phantom((20, 16, 16), (3.0, 6.0, 6.0))
    found = I3d(I3dConfig(weights=weights, frames=16)).features(volume)
    assert found.shape == (1, 400) and found[0, 2] == 16
    assert I3d(I3dConfig(weights=weights)).features(volume)[0, 2] == 20
    assert I3d(I3dConfig(weights=weights, frames=16)).frames(20).tolist() == list(range(2, 18))
    assert I3d(I3dConfig(weights=weights, frames=4, pick="even")).frames(20).tolist() == [2, 7, 12, 17]
    with pytest.raises(DataError, match="32 frames"):
        I3d(I3dConfig(weights=weights, frames=32)).features(volume)


def test_weights_are_given_and_checked(files, tmp_path):
    with pytest.raises(MissingFileError) as caught:
        Inception(InceptionConfig(weights=str(tmp_path / "none.pt")))
    assert "StyleGAN" in caught.value.hint
    with pytest.raises(CheckpointError, match="SHA-256"):
        Inception(InceptionConfig(weights=str(files / "inception.pt"), sha256="0" * 64))
    described = Inception(InceptionConfig(weights=str(files / "inception.pt"))).describe()
    assert described["weights"]["source"] == "inception.pt" and len(described["weights"]["sha256"]) == 64
    (tmp_path / "text.pt").write_text("no network")
    with pytest.raises(CheckpointError, match="no TorchScript"):
        Inception(InceptionConfig(weights=str(tmp_path / "text.pt"))).features(phantom())
    with pytest.raises(CheckpointError, match="features, wanted"):
        Inception(InceptionConfig(weights=str(narrow(tmp_path)))).features(phantom())


class Narrow(nn.Module):
    def forward(self, img: Tensor, return_features: bool = False) -> Tensor:
        return img.mean(dim=(2, 3))


def narrow(folder):
    path = folder / "narrow.pt"
    torch.jit.script(Narrow()).save(path)
    return path


def test_radimagenet(resnet_file):
    config = RadImageNetConfig(weights=str(resnet_file), batch=4)
    extractor = RadImageNet(config)
    check_feature_extractor(extractor, volumes=[phantom((4, 40, 36), (3.0, 6.0, 6.0), seed=seed) for seed in (1, 2)])
    volume = phantom((4, 40, 36), (3.0, 6.0, 6.0))
    prepared = extractor.prepared(volume)
    assert prepared.min() == 0.0 and prepared.max() == 1.0
    channels = extractor._channels(torch.from_numpy(prepared))
    assert float(channels[:, 0].min()) == pytest.approx(-0.406) and float(channels[:, 2].max()) == pytest.approx(1 - 0.485)
    cube = RadImageNet(config.model_copy(update={"size": 48, "spacing_mm": 6.0})).prepared(volume)
    assert cube.shape == (48, 48, 48)
    assert len(RadImageNet(config.model_copy(update={"centre": 0.5})).features(volume)) == 2


def test_radimagenet_reads_both_ways_of_naming_and_refuses_the_other_layout(resnet_file, tmp_path):
    network = ResNet50(keras=False)
    numbers = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
    renamed = {}
    for name, value in network.state_dict().items():
        first, _, rest = name.partition(".")
        renamed[f"backbone.{numbers[first]}.{rest}"] = value
    torch.save(renamed, tmp_path / "sequential.pth")
    loaded = RadImageNet(RadImageNetConfig(weights=str(tmp_path / "sequential.pth"), variant="torchvision")).network
    torch.testing.assert_close(loaded.layer3[2].conv2.weight, network.layer3[2].conv2.weight)
    with pytest.raises(CheckpointError) as caught:
        RadImageNet(RadImageNetConfig(weights=str(resnet_file), variant="torchvision")).network  # noqa: B018
    assert "variant: radimagenet" in caught.value.hint


def test_the_trunk_strides_where_the_variant_says():
    strides = {
        keras: [ResNet50(keras=keras).layer2[0].get_submodule(f"conv{n}").stride[0] for n in (1, 2)] for keras in (True, False)
    }
    assert strides == {True: [2, 1], False: [1, 2]}
