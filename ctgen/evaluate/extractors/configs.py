"""Configs of the built-in feature extractors. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from ctgen.config import ComponentConfig
from ctgen.evaluate.configs import WindowHu

Sha256 = Annotated[str, Field(pattern="^([0-9a-f]{64})?$")]
FilePath = Annotated[str, AfterValidator(lambda path: str(Path(path).expanduser().absolute()))]
Batch = Annotated[int, Field(ge=1)]


class HuStatsConfig(ComponentConfig):
    """Plain numbers of a slice or a volume: histogram, gradients, air and lung, a coarse picture. No weights."""

    unit: Literal["slice", "volume"] = "slice"
    """One row per slice, or one row per volume."""
    window_hu: WindowHu = (-1000.0, 1000.0)
    cells: Annotated[int, Field(ge=4, le=32)] = 16
    """Side of the coarse picture that is transformed."""
    waves: Annotated[int, Field(ge=1, le=8)] = 4
    """Cosine waves kept per axis."""


class TorchScriptConfig(ComponentConfig):
    """A network in a TorchScript file. It is never downloaded."""

    weights: FilePath
    """Path of the TorchScript file."""
    sha256: Sha256 = ""
    """Refuse a file with another hash; empty: any (the hash stands in the protocol)."""
    window_hu: WindowHu = (-1000.0, 1000.0)
    """HU that become 0 and 255."""
    rounded: bool = True
    """Grey values are whole numbers, as in image files."""


class InceptionConfig(TorchScriptConfig):
    """StyleGAN's Inception-v3 as TorchScript (inception-2015-12-05.pt): slices as images of 3 equal channels, 0..255."""

    output_bias: bool = False
    """Whether logits have the last layer's bias; StyleGAN's inception score leaves it out."""
    batch: Batch = 16


class I3dConfig(TorchScriptConfig):
    """StyleGAN-V's I3D as TorchScript (i3d_torchscript.pt): a volume's slices as the frames of one video."""

    frames: Annotated[int, Field(ge=1)] | None = None
    """Slices that are shown; None: all."""
    pick: Literal["centre", "even"] = "centre"
    """``frames`` neighbouring slices from the middle, or spread evenly over the volume."""


class RadImageNetConfig(ComponentConfig):
    """ResNet-50 with RadImageNet's weights: spatial mean of the last layer, 2048 numbers per slice."""

    weights: FilePath
    """State dict: a .pth or safetensors file without the classifier; it is never downloaded."""
    sha256: Sha256 = ""
    """Refuse a file with another hash; empty: any (the hash stands in the protocol)."""
    variant: Literal["radimagenet", "torchvision"] = "radimagenet"
    """Where a block strides and whether convolutions have biases: Keras' ResNet-50 v1 (as RadImageNet's weights are
    published for PyTorch), or torchvision's."""
    window_hu: WindowHu = (-1000.0, 1000.0)
    """HU are clipped to it."""
    scaling: Literal["volume", "slice", "window"] = "volume"
    """What becomes 0 and 1: the ends of the volume (MAISI's script), of each slice, or of the window."""
    subtract: tuple[float, float, float] = (0.406, 0.456, 0.485)
    """Taken off the three channels (B, G, R), all of them the same picture."""
    spacing_mm: Annotated[float, Field(gt=0)] | None = None
    """Resample to this isotropic spacing first (MAISI: 1.0); None: as it is."""
    size: Annotated[int, Field(ge=32)] | None = None
    """Crop and pad to a cube of this side (MAISI: 512); None: as it is."""
    pad_hu: float = -1000.0
    centre: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the slices that count, around the middle (MAISI's option: 0.4)."""
    batch: Batch = 16


class CtNetConfig(ComponentConfig):
    """CT-Net as the VLM3D challenge of 2025 trained it on CT-RATE's 18 labels: 96 numbers per volume."""

    weights: FilePath
    """The challenge's checkpoint (CTNet28_ctclip_whole_data_18classes), or its state dict; it is never downloaded."""
    sha256: Sha256 = ""
    """Refuse a file with another hash; empty: any (the hash stands in the protocol)."""
    batch: Batch = 8
    """Pictures of three slices at a time; changes nothing but memory."""
