"""The check of feature extractors accepts a sound one and finds one defect at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ctgen.interfaces import FeatureExtractor, HasLabels, HasLogits, HasText
from ctgen.testing import check_feature_extractor, phantom
from ctgen.testing.features import PlainBank


class Plain:
    width = 6
    unit = "slice"

    def describe(self):
        weights = {"label": "NONE", "source": "", "sha256": ""}
        return {"network": "none", "weights": weights, "preprocessing": {"scale": 1000.0}}

    def features(self, volume, plane="xy"):
        return PlainBank({"real": volume}).volume("any", "real", plane)


class Able(Plain):
    def logits(self, volume, plane="xy"):
        return 2 * self.features(volume, plane)

    def text(self, reports):
        return np.stack([PlainBank().text("any", report) for report in reports])

    def labels(self, volume):
        return {"Lung nodule": 0.5}


def test_a_sound_one_passes():
    check_feature_extractor(Plain())
    check_feature_extractor(Able())
    assert isinstance(Able(), FeatureExtractor)
    assert isinstance(Able(), HasLogits) and isinstance(Able(), HasText) and isinstance(Able(), HasLabels)
    assert not isinstance(Plain(), HasLogits) and not isinstance(Plain(), HasText)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"width": 7}, "shape"),
        ({"unit": "plane"}, "unit"),
        ({"unit": "volume"}, "shape"),
        ({"describe": lambda self: {"network": "x"}}, "lacks"),
        ({"describe": lambda self: {**Plain().describe(), "weights": {}}}, "weights"),
        ({"describe": lambda self: {**Plain().describe(), "more": {1, 2}}}, "JSON"),
        ({"features": lambda self, volume, plane="xy": Plain().features(volume, plane).astype(np.float64)}, "dtype"),
        ({"features": lambda self, volume, plane="xy": Plain().features(volume, plane) * np.float32(np.nan)}, "finite"),
        ({"features": lambda self, volume, plane="xy": Plain().features(phantom((16, 48, 40)), plane)}, "shape|same"),
        ({"features": lambda self, volume, plane="xy": np.random.rand(16, 6).astype(np.float32)}, "global|shape|twice"),  # noqa: NPY002
        ({"features": lambda self, volume, plane="xy": Plain().features(volume, "xy")}, "shape"),
        ({"labels": lambda self, volume: {"Lung nodule": 2.0}}, "outside"),
        ({"labels": lambda self, volume: {"nodules": 0.5}}, "not CT-RATE's"),
        ({"text": lambda self, reports: np.ones((len(reports), 6), np.float32)}, "two different reports"),
        ({"logits": lambda self, volume, plane="xy": np.ones((3, 4), np.float32)}, "logits"),
    ],
)
def test_one_defect_at_a_time(members: dict[str, Any], message: str):
    broken = type("Broken", (Plain,), members)()
    with pytest.raises(AssertionError, match=message):
        check_feature_extractor(broken)


def test_a_changed_volume_is_noticed():
    def features(self, volume, plane="xy"):
        found = Plain().features(volume, plane)
        volume.hu[0] += 1
        return found

    with pytest.raises(AssertionError):
        check_feature_extractor(type("Broken", (Plain,), {"features": features})())
