"""A recipe that has been read, resolved and checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ctgen.config import ComponentConfig
from ctgen.errors import ConfigError, Mark, did_you_mean
from ctgen.host import Host
from ctgen.interfaces import LatentSpec, Sizes, TextSpec
from ctgen.recipe.settings import (
    SETTINGS,
    EncodeSettings,
    EvaluateSettings,
    PrepareSettings,
    ReportSettings,
    SampleSettings,
    Settings,
    TrainSettings,
)

COMPONENT_SECTIONS: Mapping[str, str] = {
    "data": "dataset",
    "autoencoder": "autoencoder",
    "text_encoder": "text_encoder",
    "backbone": "backbone",
    "classifier": "classifier",
    "schedule": "schedule",
    "rollout": "rollout",
    "objective": "objective",
    "export": "exporter",
    "extractors": "feature_extractor",
    "metrics": "metric",
}
"""Recipe section -> component kind. ``metrics`` is a list of sections, ``extractors`` a mapping of sections."""

SEVERAL = frozenset({"metrics", "extractors"})
"""Sections that hold any number of components."""

SECTIONS: tuple[str, ...] = (*COMPONENT_SECTIONS, *SETTINGS)
ALWAYS_NEEDED = frozenset({"data", "objective"})
DEFAULT_USE: Mapping[str, str] = {"export": "nifti"}
DEFAULT = Mark("default")


@dataclass(frozen=True)
class Use:
    """A component as a recipe uses it. ``name`` is bare or plugin:name, as written there."""

    kind: str
    name: str
    plugin: str
    config: ComponentConfig

    @property
    def qualified(self) -> str:
        return f"{self.plugin}:{self.name.rpartition(':')[2]}"

    def identity(self) -> dict[str, Any]:
        """JSON-ready: what determines results, for fingerprints."""
        return {"use": self.qualified, **self.config.identity()}


@dataclass(frozen=True)
class Recipe:
    """Equal recipes describe the same run; where they came from and which host read them does not count.

    A section that the objective does not need may be None; one that it needs never is. ``origin`` maps each dotted leaf
    ("train.steps", "metrics.0.use") to the place that set it.
    """

    name: str
    data: Use
    autoencoder: Use | None
    text_encoder: Use | None
    backbone: Use | None
    classifier: Use | None
    schedule: Use | None
    rollout: Use | None
    objective: Use
    export: Use
    extractors: Mapping[str, Use]
    metrics: tuple[Use, ...]
    prepare: PrepareSettings
    encode: EncodeSettings
    train: TrainSettings
    sample: SampleSettings
    evaluate: EvaluateSettings
    report: ReportSettings
    source: str = field(compare=False)
    origin: Mapping[str, Mark] = field(compare=False, repr=False)
    host: Host = field(compare=False, repr=False)

    def use(self, section: str) -> Use:
        """The component of ``section``; ConfigError if this recipe has none."""
        found = getattr(self, section, None) if section in COMPONENT_SECTIONS and section not in SEVERAL else None
        if not isinstance(found, Use):
            known = [name for name, _ in self.uses() if "." not in name]
            raise ConfigError(f"recipe {self.name!r} has no component section {section!r}", hint=did_you_mean(section, known))
        return found

    def uses(self) -> Iterator[tuple[str, Use]]:
        """(section, component) of all that are present; metrics as "metrics.0", "metrics.1", ..., extractors by their keys."""
        for section in COMPONENT_SECTIONS:
            found = getattr(self, section)
            if isinstance(found, Use):
                yield section, found
        for key, use in self.extractors.items():
            yield f"extractors.{key}", use
        for index, use in enumerate(self.metrics):
            yield f"metrics.{index}", use

    def settings(self) -> Iterator[tuple[str, Settings]]:
        """(section, settings) of every settings section, in stage order."""
        for section in SETTINGS:
            yield section, getattr(self, section)

    def sizes(self) -> Sizes:
        """See ``sizes_of``."""
        return sizes_of(
            self.prepare,
            self.autoencoder.config if self.autoencoder else None,
            self.text_encoder.config if self.text_encoder else None,
            self.rollout.config if self.rollout else None,
        )

    def build(self, section: str, **context: Any) -> Any:
        """Import and build the component of ``section`` ("metrics.0" for a metric); its weights are read now."""
        use = dict(self.uses()).get(section) or self.use(section)
        return self.host.build(use.kind, use.name, use.config, **context)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready: every section with every field, defaults included."""
        resolved: dict[str, Any] = {"name": self.name}
        for section in COMPONENT_SECTIONS:
            found = getattr(self, section)
            if isinstance(found, Use):
                resolved[section] = _written(found)
        if self.extractors:
            resolved["extractors"] = {key: _written(use) for key, use in self.extractors.items()}
        resolved["metrics"] = [_written(use) for use in self.metrics]
        resolved.update((section, settings.model_dump(mode="json")) for section, settings in self.settings())
        return resolved

    def to_yaml(self) -> str:
        """The resolved recipe: a recipe itself, which needs no other file and repeats the run."""
        from ctgen.recipe.writing import dump

        return dump(self.as_dict())


def sizes_of(
    prepare: PrepareSettings, autoencoder: ComponentConfig | None, text: ComponentConfig | None, rollout: ComponentConfig | None
) -> Sizes:
    """Everything that follows from the configs alone. ValueError if the volume does not divide into latent cells.

    Without an autoencoder a latent cell is a voxel (0 channels); without a text encoder the text has width 0; without a
    rollout a block is the whole volume.
    """
    # Not part of ComponentConfig, because only these kinds have them; validate() reports a config that lacks its own.
    latent: LatentSpec = autoencoder.latent_spec() if autoencoder else LatentSpec(0, (1, 1, 1))  # type: ignore[attr-defined]
    grid = latent.grid(prepare.size)
    text_spec: TextSpec = text.text_spec() if text else TextSpec(0, 0)  # type: ignore[attr-defined]
    block: int = rollout.block_length(grid[0]) if rollout else grid[0]  # type: ignore[attr-defined]
    return Sizes(prepare.size, latent, text_spec, grid, block)


def _written(use: Use) -> dict[str, Any]:
    return {"use": use.name, **use.config.model_dump(mode="json")}
