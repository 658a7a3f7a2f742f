"""Entry module: declares what the plugin offers and imports nothing heavy."""

from __future__ import annotations

from ctgen import hookimpl
from ctgen.host import Registrar
from ctgen_baseline.configs import (
    MeanVolumeConfig,
    NearestTrainConfig,
    NoiseConfig,
    Unet3dConfig,
    VaeRoundtripConfig,
)
from ctgen_baseline.label_cnn_config import LabelCnnConfig, LabelCnnFeaturesConfig

PLUGIN_API = 1


@hookimpl
def ctgen_register(registrar: Registrar) -> None:
    registrar.backbone(
        "unet3d", target="ctgen_baseline.unet3d:Unet3d", config=Unet3dConfig, summary="3-D U-Net over a whole volume's latent"
    )
    registrar.classifier(
        "label-cnn",
        target="ctgen_baseline.label_cnn:LabelCnn",
        config=LabelCnnConfig,
        summary="small 3-D convolutional network: which labels a volume has, and where",
    )
    registrar.feature_extractor(
        "label-cnn",
        target="ctgen_baseline.label_cnn_features:LabelCnnFeatures",
        config=LabelCnnFeaturesConfig,
        summary="labels of volumes by label-cnn, which never reads a report; volumes",
    )
    generators = "ctgen_baseline.generators"
    registrar.generator(
        "mean-volume", target=f"{generators}:MeanVolume", config=MeanVolumeConfig, summary="the mean of the training volumes"
    )
    registrar.generator(
        "nearest-train",
        target=f"{generators}:NearestTrain",
        config=NearestTrainConfig,
        summary="the training scan whose report is nearest to the prompt",
    )
    registrar.generator(
        "vae-roundtrip",
        target=f"{generators}:VaeRoundtrip",
        config=VaeRoundtripConfig,
        summary="the real scan, encoded and decoded",
    )
    registrar.generator(
        "noise", target=f"{generators}:Noise", config=NoiseConfig, summary="noise with the histogram of the training volumes"
    )
    registrar.preset(
        "baseline",
        package="ctgen_baseline",
        resource="presets/baseline.yaml",
        summary="whole-volume rectified flow; add data and weights",
    )
    registrar.preset(
        "baseline-mini",
        package="ctgen_baseline",
        resource="presets/baseline-mini.yaml",
        summary="the baseline at mini scale, with the shipped weights",
    )
