"""Plugins for recipe tests: configs as real components have them, targets that nobody imports."""

from __future__ import annotations

import itertools
import types
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from ctgen import hookimpl
from ctgen.config import ComponentConfig
from ctgen.host import Host, Registrar
from ctgen.interfaces import LatentSpec, Sizes, TextSpec


class ScanConfig(ComponentConfig):
    neutral: ClassVar[frozenset[str]] = frozenset({"cache"})
    cases: int = Field(8, ge=1)
    root: str = "scans"
    pattern: str | None = None
    cache: bool = True


class SimulatedConfig(ComponentConfig):
    seed: int = 0
    sigma: float = 1e-3


class CodecConfig(ComponentConfig):
    stride: tuple[int, int, int] = (1, 8, 8)
    channels: int = 4
    weights: str = "mini"
    scale: float | Literal["auto"] = "auto"

    def latent_spec(self) -> LatentSpec:
        return LatentSpec(self.channels, self.stride)


class ReaderConfig(ComponentConfig):
    width: int = 32
    max_tokens: int = 16

    def text_spec(self) -> TextSpec:
        return TextSpec(self.width, self.max_tokens)


class NetConfig(ComponentConfig):
    """A backbone."""

    depth: int = Field(4, ge=1)
    width: int = 64
    heads: int = 4
    patch: int = 2
    """Latent cells per token along h and w."""
    dropout: float = Field(0.0, ge=0, lt=1)
    activation: Literal["gelu", "silu"] = "gelu"

    def check(self, sizes: Sizes) -> Iterable[tuple[str, str]]:
        for axis, cells in zip("hw", sizes.grid[1:], strict=True):
            if cells % self.patch:
                yield "patch", f"patch {self.patch} does not divide latent {axis} = {cells}"
        if self.width % self.heads:
            yield "heads", f"{self.heads} heads do not divide width {self.width}"


class OtherNetConfig(ComponentConfig):
    layers: int = 2


class PathConfig(ComponentConfig):
    shift: float = 1.0


class BlocksConfig(ComponentConfig):
    block: int = 16

    def block_length(self, depth: int) -> int:
        return min(self.block, depth)


class FlowConfig(ComponentConfig):
    sections: ClassVar[frozenset[str]] = frozenset({"autoencoder", "text_encoder", "backbone", "schedule", "rollout"})
    trains: ClassVar[str] = "backbone"
    reads: ClassVar[str] = "latents"
    text_drop: float = Field(0.1, ge=0, le=1)


class CodecTrainingConfig(ComponentConfig):
    sections: ClassVar[frozenset[str]] = frozenset({"autoencoder"})
    trains: ClassVar[str] = "autoencoder"
    reads: ClassVar[str] = "volumes"
    kl: float = 1e-6


class Part(ComponentConfig):
    weight: float = 1.0
    names: list[str] = []


class ScoreConfig(ComponentConfig):
    bins: int = 64
    part: Part = Part()
    weights: dict[str, float] = {}


class NoFields(ComponentConfig):
    pass


_NUMBERS = itertools.count()

FULL = """\
data: {use: scans, cases: 4}
autoencoder: codec
text_encoder: reader
backbone: {use: net, depth: 2}
schedule: path
rollout: {use: blocks, block: 8}
objective: flow
metrics: [score, {use: other-score, bins: 16}]
prepare: {size: [16, 64, 64]}
train:
  steps: 40
  lr: 1e-4
"""
"""A recipe that is right; tests write it to a file and spoil it."""


def register(registrar: Registrar) -> None:
    target = "ctgen_fakes_nobody_imports:Thing"
    registrar.dataset("scans", target=target, config=ScanConfig, summary="scans in a folder")
    registrar.dataset("simulated", target=target, config=SimulatedConfig)
    registrar.autoencoder("codec", target=target, config=CodecConfig)
    registrar.text_encoder("reader", target=target, config=ReaderConfig)
    registrar.backbone("net", target=target, config=NetConfig, summary="a network")
    registrar.backbone("other-net", target=target, config=OtherNetConfig)
    registrar.schedule("path", target=target, config=PathConfig)
    registrar.rollout("blocks", target=target, config=BlocksConfig)
    registrar.objective("flow", target=target, config=FlowConfig)
    registrar.objective("codec-training", target=target, config=CodecTrainingConfig)
    registrar.metric("score", target=target, config=ScoreConfig)
    registrar.metric("other-score", target=target, config=ScoreConfig)
    registrar.exporter("nifti", target=target, config=NoFields)


def plugin(register_components=register) -> types.ModuleType:
    """A plugin's entry module."""

    @hookimpl
    def ctgen_register(registrar: Registrar) -> None:
        register_components(registrar)

    module = types.ModuleType("fake_plugin")
    module.ctgen_register = ctgen_register
    return module


def fake_host() -> Host:
    host = Host()
    record = host.register(plugin(), "fakes")
    assert record.error is None, record.traceback
    return host


def with_preset(host: Host, folder: Path, monkeypatch, name: str, text: str) -> None:
    """Ship ``text`` as a preset from an importable package below ``folder``."""
    # Its own name each time, because Python remembers packages for the whole session.
    package = folder / f"preset_package_{next(_NUMBERS)}"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "recipe.yaml").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))

    def register_preset(registrar: Registrar) -> None:
        registrar.preset(name, package=package.name, resource="recipe.yaml", summary="a preset")

    record = host.register(plugin(register_preset), f"plugin-of-{name}")
    assert record.error is None, record.traceback
