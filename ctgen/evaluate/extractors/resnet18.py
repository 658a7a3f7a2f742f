"""A plain ResNet-18 trunk whose layers are numbered in a row, as files saved from a sequence of torchvision's layers are."""

from __future__ import annotations

from torch import Tensor, nn

WIDTH = 512
STAGES = (64, 128, 256, 512)
"""Channels; two blocks each."""


class Block(nn.Module):
    """Two 3 x 3 convolutions with a shortcut."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels != width:
            self.downsample = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        shortcut: Tensor = x if self.downsample is None else self.downsample(x)
        found: Tensor = (y + shortcut).relu()
        return found


def resnet18() -> nn.Sequential:
    """(B, 3, H, W) -> (B, 512, H / 32, W / 32), sizes rounded up."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for width in STAGES:
        layers.append(nn.Sequential(Block(channels, width, 1 if width == channels else 2), Block(width, width, 1)))
        channels = width
    return nn.Sequential(*layers)
