"""Suites and protocols: what is generated and how it is scored, as typed files. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field

from ctgen.atomic import fingerprint
from ctgen.recipe.model import Use
from ctgen.recipe.settings import Count, PrepareSettings, Seed, Settings


class SuiteSettings(Settings):
    """A suite but for its data set."""

    version: Count = Field(1, description="raised whenever a field changes")
    summary: str = Field("", description="one line, shown by `ctgen ls suites`")
    variant: str = Field("", description='a model NAME is taken from the preset NAME-variant, where there is one ("mini")')
    split: Literal["train", "valid"] | None = Field(None, description="only cases of this split of the data set")
    cases: Count | None = Field(None, description="the first so many; default: all")
    case_list: str = Field("", description="hash of the case ids, if they are pinned; another list is refused")
    seed: Seed = Field(0, description="with a case's id it decides the draw of every model")
    steps: Count | None = Field(None, description="solver steps of composed models; default: each model's own")
    slices: Literal["case", "model"] | Count = Field("case", description='slices asked for: "case": as many as the real scan')
    reports: Literal["whole", "impressions"] = Field(
        "whole", description='what models are given; "impressions": these alone, as short as what people type'
    )
    protocols: tuple[str, ...] = Field(min_length=1, description="how it is scored, in this order")
    prepare: PrepareSettings = Field(
        default_factory=lambda: PrepareSettings.model_validate({}), description="the grid on which volumes are compared"
    )


@dataclass(frozen=True)
class Suite:
    """``name`` as the user wrote it; ``source`` the file or plugin it came from."""

    name: str
    source: str = field(compare=False)
    settings: SuiteSettings
    data: Use
    train: Use | None = None
    """What models may have learnt from: for generators and metrics that look at training cases."""
    generators: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Name of a generator component -> its fields in this suite."""

    def identity(self) -> dict[str, Any]:
        """JSON-ready: what decides a model's volumes. The protocols do not: they score the same volumes."""
        settings = self.settings.identity()
        for name in ("summary", "protocols", "variant", "prepare"):
            settings.pop(name)
        if settings["reports"] == "whole":
            # suites from before there was a choice are what they were
            settings.pop("reports")
        data = {"data": self.data.identity(), "train": self.train.identity() if self.train else None}
        return {"name": self.name, **settings, "prepare": self.settings.prepare.identity(), **data}


class Needed(Settings):
    """Weights that a protocol needs and ctgen does not ship."""

    file: str = Field(description="its usual name, looked for in the folders of --weights")
    where: str = Field(description="where it can be had, and under which terms")
    sha256: str = Field("", description="of the file that the protocol means; another file is refused")


class ProtocolSettings(Settings):
    """A protocol but for its extractors and metrics."""

    version: Count = Field(1, description="raised whenever a field changes")
    summary: str = Field("", description="one line, shown by `ctgen ls protocols`")
    reproduces: str = Field("nothing", description="whose numbers these are comparable with")
    quirks: tuple[str, ...] = Field((), description="what the reproduced code does that one should know; printed")
    weights: Mapping[str, Needed] = Field(
        {}, description="EXTRACTOR (its weights) or EXTRACTOR.FIELD -> the file that it needs"
    )
    seed: Seed = Field(0, description="of the bootstrap")
    resamples: int = Field(1000, ge=0, description="of the bootstrap; 0: no intervals")
    prompts: Literal["any", "json"] = Field("any", description='"json": as the VLM3D challenge hands reports over')
    export: str = Field("nifti", description="the exporter that volumes went through before they are scored")


@dataclass(frozen=True)
class Protocol:
    """``missing``: why it cannot be run here, one reason each; then extractors and metrics may be incomplete."""

    name: str
    source: str = field(compare=False)
    settings: ProtocolSettings
    extractors: Mapping[str, Use] = field(default_factory=dict)
    metrics: Mapping[str, Use] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    def identity(self) -> dict[str, Any]:
        """JSON-ready: all that the file says and that may change a number. Of weights, only what the extractors then say."""
        settings = self.settings.identity()
        for name in ("summary", "weights", "reproduces"):
            settings.pop(name)
        extractors = {key: self._without_paths(key, use.identity()) for key, use in self.extractors.items()}
        metrics = {key: use.identity() for key, use in self.metrics.items()}
        return {"name": self.name, **settings, "extractors": extractors, "metrics": metrics}

    def fingerprint(self) -> str:
        return fingerprint(self.identity())

    def _without_paths(self, key: str, identity: Mapping[str, Any]) -> dict[str, Any]:
        """Files count by their hash, which the extractor's description holds, and not by where this machine has them."""
        given = {field_of(need)[1] for need in self.settings.weights if field_of(need)[0] == key}
        return {name: value for name, value in identity.items() if name not in given}


def field_of(need: str) -> tuple[str, str]:
    """(extractor, field) of a key of ``weights``."""
    extractor, _, name = need.partition(".")
    return extractor, name or "weights"
