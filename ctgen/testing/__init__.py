"""Conformance checks for plugin authors: the executable form of ctgen.interfaces.

Each ``check_*`` takes a built component, exercises it at small sizes, and raises AssertionError with what was found and
what was wanted. ``check(kind, component, ...)`` picks the check by the kind's name:

    from ctgen import Host
    from ctgen.testing import check

    check("schedule", Host.discover().create("schedule", "linear-flow"))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ctgen.errors import UnknownComponentError, did_you_mean
from ctgen.testing.autoencoder import check_autoencoder
from ctgen.testing.backbone import check_backbone
from ctgen.testing.classifier import check_classifier
from ctgen.testing.dataset import check_dataset
from ctgen.testing.exporter import check_exporter
from ctgen.testing.feature_extractor import check_feature_extractor
from ctgen.testing.generator import check_generator
from ctgen.testing.metric import check_metric
from ctgen.testing.objective import check_objective
from ctgen.testing.rollout import check_rollout
from ctgen.testing.schedule import check_schedule
from ctgen.testing.source import MemorySource
from ctgen.testing.text_encoder import check_text_encoder
from ctgen.testing.volumes import phantom

__all__ = [
    "CHECKS",
    "MemorySource",
    "check",
    "check_autoencoder",
    "check_backbone",
    "check_classifier",
    "check_dataset",
    "check_exporter",
    "check_feature_extractor",
    "check_generator",
    "check_metric",
    "check_objective",
    "check_rollout",
    "check_schedule",
    "check_text_encoder",
    "phantom",
]

CHECKS: Mapping[str, Callable[..., None]] = {
    "autoencoder": check_autoencoder,
    "text_encoder": check_text_encoder,
    "backbone": check_backbone,
    "classifier": check_classifier,
    "schedule": check_schedule,
    "rollout": check_rollout,
    "objective": check_objective,
    "dataset": check_dataset,
    "metric": check_metric,
    "feature_extractor": check_feature_extractor,
    "exporter": check_exporter,
    "generator": check_generator,
}


def check(kind: str, component: Any, *context: Any, **options: Any) -> None:
    """Run the check of ``kind``; further arguments go to it (sizes, a folder to write to, a training source)."""
    if kind not in CHECKS:
        raise UnknownComponentError(f"no component kind named {kind!r}", hint=did_you_mean(kind, CHECKS))
    CHECKS[kind](component, *context, **options)
