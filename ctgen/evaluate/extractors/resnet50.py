"""A plain ResNet-50 trunk, in the two ways that published weights need."""

from __future__ import annotations

from torch import Tensor, nn

WIDTH = 2048
STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))
"""Channels inside the blocks, and how many blocks."""
EXPANSION = 4
KERAS_EPSILON = 1.001e-5


class Block(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 with a shortcut. ``keras``: biases, and the stride in the first convolution."""

    def __init__(self, channels: int, inner: int, stride: int, keras: bool) -> None:
        super().__init__()
        outer, epsilon = inner * EXPANSION, KERAS_EPSILON if keras else 1e-5
        first, second = (stride, 1) if keras else (1, stride)
        self.conv1 = nn.Conv2d(channels, inner, 1, first, bias=keras)
        self.bn1 = nn.BatchNorm2d(inner, eps=epsilon)
        self.conv2 = nn.Conv2d(inner, inner, 3, second, 1, bias=keras)
        self.bn2 = nn.BatchNorm2d(inner, eps=epsilon)
        self.conv3 = nn.Conv2d(inner, outer, 1, bias=keras)
        self.bn3 = nn.BatchNorm2d(outer, eps=epsilon)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels != outer:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, outer, 1, stride, bias=keras), nn.BatchNorm2d(outer, eps=epsilon)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        y = self.bn3(self.conv3(y))
        shortcut: Tensor = x if self.downsample is None else self.downsample(x)
        found: Tensor = (y + shortcut).relu()
        return found


class ResNet50(nn.Module):
    """(B, 3, H, W) -> (B, 2048, H / 32, W / 32). Parameters are named as torchvision names them."""

    def __init__(self, *, keras: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=keras)
        self.bn1 = nn.BatchNorm2d(64, eps=KERAS_EPSILON if keras else 1e-5)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = 64
        for number, (inner, count) in enumerate(STAGES, start=1):
            blocks = []
            for place in range(count):
                blocks.append(Block(channels, inner, 2 if place == 0 and number > 1 else 1, keras))
                channels = inner * EXPANSION
            self.add_module(f"layer{number}", nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.bn1(self.conv1(x)).relu())
        for number in range(1, len(STAGES) + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return x
