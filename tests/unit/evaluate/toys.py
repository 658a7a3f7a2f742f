"""A small extractor with every ability, and items with features."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ctgen.data.labels import LABELS
from ctgen.evaluate.bank import FeatureStore
from ctgen.interfaces import EvaluationItem, Report
from ctgen.volume import Volume

WIDTH = 5


class Toy:
    """Slices: 5 moments. Counts its calls."""

    def __init__(self, unit="slice", name="toy"):
        self.unit, self.name, self.width, self.calls = unit, name, WIDTH, 0

    def describe(self):
        return {"network": self.name, "weights": {"label": "NONE", "source": "", "sha256": ""}, "preprocessing": self.unit}

    def features(self, volume, plane="xy"):
        self.calls += 1
        rows = np.moveaxis(volume.hu, {"xy": 0, "xz": 1, "yz": 2}[plane], 0)
        rows = rows.reshape(len(rows), -1).astype(np.float64) / 1000
        found = np.stack([rows.mean(1), rows.std(1), rows.min(1), rows.max(1), np.abs(np.diff(rows)).mean(1)], 1)
        return (found.mean(0, keepdims=True) if self.unit == "volume" else found).astype(np.float32)


class Reader(Toy):
    """Finds in a volume what its first five voxels say, and reads the report's first word as one of five directions."""

    def __init__(self):
        super().__init__("volume", "reader")

    def features(self, volume, plane="xy"):
        return volume.hu[0, 0, None, :WIDTH].astype(np.float32)

    def text(self, reports):
        return np.stack([vector_of(report.findings) for report in reports])

    def labels(self, volume):
        return {label: float(np.clip(volume.hu[1, 0, place], 0, 1)) for place, label in enumerate(LABELS)}


def vector_of(words):
    if not words:
        return np.full(WIDTH, 0.1, np.float32)
    return np.random.default_rng(sum(map(ord, words))).normal(size=WIDTH).astype(np.float32)


def noise(seed, depth=8, side=20, scale=300.0, mean=0.0):
    hu = np.random.default_rng(seed).normal(mean, scale, (depth, side, side)).astype(np.float32)
    return Volume.canonical(hu, (3.0, 2.0, 2.0))


def items(store, count=6, *, made=lambda k: noise(100 + k, mean=60.0), real=noise, **facts):
    """Cases k = 0 .. count - 1 with real(k) and made(k)."""
    for k in range(count):
        volumes = {"real": real(k), "generated": made(k)}
        yield EvaluationItem(f"case{k:02}", features=store.bank(volumes), **volumes, **facts)


def spoken(words, labels=None, seed=0):
    """A volume that says these words and labels to Reader."""
    volume = noise(seed, 4, 24)
    volume.hu[0, 0, :WIDTH] = vector_of(words)
    volume.hu[1, 0, : len(LABELS)] = 0.0 if labels is None else [labels[label] for label in LABELS]
    return volume


def reading_items(store, count=24, *, asked=None, seed=0):
    """Cases whose real scans say their report; what the generated ones say is ``asked(k)``: the k of another case."""
    random = np.random.default_rng(seed)
    labels = [{label: int(random.random() < 0.5) for label in LABELS} for _ in range(count)]
    asked = asked or (lambda k: k)
    for k in range(count):
        other = asked(k)
        volumes = {"real": spoken(f"report {k}", labels[k], k), "generated": spoken(f"report {other}", labels[other], k)}
        item = EvaluationItem(f"case{k:02}", features=store.bank(volumes), labels=labels[k], **volumes)
        yield replace(item, report=Report(f"report {k}"))


def store(folder=None, **extractors):
    return FeatureStore(extractors or {"toy": Toy()}, folder)
