"""Do the metrics see what they are for? Real volumes, spoilt step by step, in the place of generated ones.

    python benchmarks/metric_validity/study.py [--scans FOLDER] [--cases 64] [--size 48,64,64] [-o FOLDER]

Without --scans the volumes are simulated chests. Half of the cases are the real set. Spoilt versions of the same cases stand
for the generated ones, at five levels of blur, noise, HU shift, shuffled slices, and halving the different cases (there the
mean over several choices of those that are left); level 0 is the real set itself. The other half, untouched, is the floor.
Writes study.json and study.md; exits 1 if a check fails.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.ndimage import gaussian_filter

from ctgen.atomic import stable_hash, write_json, write_text
from ctgen.data.labels import LABELS
from ctgen.evaluate.auroc import auroc
from ctgen.evaluate.bank import FeatureStore
from ctgen.evaluate.driver import evaluate
from ctgen.host import Host
from ctgen.interfaces import EvaluationItem, FeatureExtractor, Plane
from ctgen.volume import Volume
from ctgen.volume.io import read_volume
from ctgen.volume.orient import to_canonical
from ctgen.volume.resample import crop_or_pad, resample

LEVELS = 5
TURNS = 8
"""Choices of the cases that are left when modes are fewer: which ones are left moves a distance as much as how many."""
SEAM_HU = 20.0
BLOCK = 8


@dataclass(frozen=True)
class Check:
    name: str
    values: list[float]
    passed: bool
    wanted: str


def blurred(hu: np.ndarray, level: int, name: str) -> np.ndarray:
    return gaussian_filter(hu, 0.45 * level) if level else hu


def noisy(hu: np.ndarray, level: int, name: str) -> np.ndarray:
    return hu + np.random.default_rng(stable_hash("noise", name)).normal(0, 30.0 * level, hu.shape)


def shifted(hu: np.ndarray, level: int, name: str) -> np.ndarray:
    return hu + 15.0 * level


def shuffled(hu: np.ndarray, level: int, name: str) -> np.ndarray:
    """A share of the slices change places with each other: at each level those of the level before, and more."""
    order = np.random.default_rng(stable_hash("slices", name)).permutation(len(hu))
    chosen = order[: round(level / (LEVELS + 2) * len(hu))]
    places = np.arange(len(hu))
    places[chosen] = np.roll(chosen, 1)
    return hu[places]


SPOIL: dict[str, Callable[[np.ndarray, int, str], np.ndarray]] = {
    "blur": blurred,
    "noise": noisy,
    "HU shift": shifted,
    "slice shuffling": shuffled,
}


def volumes_of(arguments: argparse.Namespace, host: Host) -> list[Volume]:
    size = arguments.size
    if arguments.scans is None:
        spacing = tuple(384.0 / side if axis else 288.0 / side for axis, side in enumerate(size))
        fields = {"cases": arguments.cases, "size": size, "spacing_mm": spacing, "seed": 77}
        dataset = host.create("dataset", "atlas-thorax", **fields)
        return [dataset[index].volume for index in range(arguments.cases)]
    found = sorted(path for path in arguments.scans.rglob("*") if path.name.endswith((".nii.gz", ".nii", ".mha")))
    chosen = found[: arguments.cases]
    volumes = (to_canonical(read_volume(path))[0] for path in chosen)
    return [crop_or_pad(resample(volume, (6.0, 6.0, 6.0)), size, fill_hu=-1000.0) for volume in volumes]


def scores(host: Host, store: FeatureStore, items: Iterator[EvaluationItem], metrics: dict[str, Any], **more: Any) -> Any:
    built = {key: host.create("metric", name, **fields) for key, (name, fields) in metrics.items()}
    return evaluate(items, built, protocol={"name": "metric-validity"}, resamples=0, extractors=store.describe(), **more)


DISTANCES = {
    "frechet 2.5-D": ("frechet", {"features": "slices", "planes": "2.5d"}),
    "kid 2.5-D": ("kid", {"features": "slices", "planes": "2.5d"}),
    "frechet of volumes": ("frechet", {"features": "volumes", "planes": "volume"}),
    "kid of volumes": ("kid", {"features": "volumes", "planes": "volume"}),
}


def unpaired(store: FeatureStore, real: Sequence[Volume], made: Sequence[Volume]) -> Iterator[EvaluationItem]:
    for index, volume in enumerate(real):
        yield EvaluationItem(f"real-{index:03}", real=volume, features=store.bank({"real": volume}))
    for index, volume in enumerate(made):
        yield EvaluationItem(f"made-{index:03}", generated=volume, features=store.bank({"generated": volume}))


def spoilt(real: Sequence[Volume], kind: str, level: int) -> list[Volume]:
    made = [SPOIL[kind](volume.hu.astype(np.float64), level, str(k)) for k, volume in enumerate(real)]
    return [Volume(hu.astype(np.float32), volume.affine) for hu, volume in zip(made, real, strict=True)]


def fewer(real: Sequence[Volume], level: int) -> list[list[Volume]]:
    """As many volumes of half, a quarter, ... of the cases; several choices, each of which keeps some of the level before."""
    kept = max(1, len(real) // 2**level)
    starts = range(0, len(real), max(1, len(real) // TURNS)) if level else range(1)
    return [[real[(start + index % kept) % len(real)] for index in range(len(real))] for start in starts]


def monotone(host: Host, store: FeatureStore, real: list[Volume], other: list[Volume]) -> Iterator[Check]:
    curves: dict[str, list[list[float]]] = {}
    for kind in (*SPOIL, "fewer modes"):
        for level in range(LEVELS + 1):
            sets = fewer(real, level) if kind == "fewer modes" else [spoilt(real, kind, level)]
            found = [scores(host, store, unpaired(store, real, made), DISTANCES).values for made in sets]
            for key, (name, _) in DISTANCES.items():
                mean = float(np.mean([values[key][name].value for values in found]))
                curves.setdefault(f"{key}: {kind}", [[]])[0].append(mean)
    floor = scores(host, store, unpaired(store, real, other), DISTANCES).values
    for key, (name, _) in DISTANCES.items():
        value = floor[key][name].value
        worst = min(curve[0][-1] for label, curve in curves.items() if label.startswith(f"{key}: ") and "modes" not in label)
        yield Check(f"{key}: floor, other cases", [value], value < worst, f"below every spoilt set at level {LEVELS}")
    for key, (values_,) in curves.items():
        yield Check(key, values_, all(less < more for less, more in pairwise(values_)), "rises with every level")


def seams(host: Host, store: FeatureStore, real: list[Volume]) -> Iterator[Check]:
    found = []
    for step in (0.0, SEAM_HU):
        items = []
        for index, volume in enumerate(real):
            hu = volume.hu.astype(np.float32)
            starts = tuple(range(BLOCK, len(hu), BLOCK))
            for number, start in enumerate(starts):
                hu[start:] += step if number % 2 == 0 else -step
            made = Volume(hu, volume.affine)
            items.append(EvaluationItem(f"{index}", real=volume, generated=made, boundaries=starts))
        result = scores(host, store, iter(items), {"continuity": ("continuity", {})}).values["continuity"]
        found.append(result["boundary_ratio"].value)
    yield Check(
        f"continuity: seams of {SEAM_HU:g} HU", found, found[1] > 1.1 * found[0], "ratio without and with seams: higher with"
    )


def copies(host: Host, store: FeatureStore, real: list[Volume], train: list[Volume]) -> Iterator[Check]:
    def reference() -> Iterator[EvaluationItem]:
        for index, volume in enumerate(train):
            yield EvaluationItem(f"train-{index}", real=volume, features=store.bank({"real": volume}))

    metrics = {"memory": ("memorisation", {"features": "volumes"})}
    for name, made, wanted in (("training cases", train, 1.0), ("held-out cases", real[::-1], 0.0)):
        items = (
            EvaluationItem(f"{k}", real=one, generated=other, features=store.bank({"real": one, "generated": other}))
            for k, (one, other) in enumerate(zip(real, made, strict=False))
        )
        value = scores(host, store, items, metrics, reference=reference).values["memory"]["copies_fraction"].value
        yield Check(f"memorisation: {name} as generated", [value], value == wanted, f"share flagged: {wanted:g}")


class Timid:
    """An extractor that sees the volumes whose meta says "timid" nearer to the mean than they are: a model that plays safe."""

    unit: Literal["volume"] = "volume"

    def __init__(self, inner: FeatureExtractor, volumes: Sequence[Volume], spread: float = 0.6) -> None:
        self.inner, self.width, self.spread = inner, inner.width, spread
        self.mean = np.concatenate([inner.features(volume) for volume in volumes]).mean(0)

    def describe(self) -> dict[str, Any]:
        return {**self.inner.describe(), "spread": self.spread}

    def features(self, volume: Volume, plane: Plane = "xy") -> np.ndarray:
        rows = self.inner.features(volume, plane)
        return self.mean + self.spread * (rows - self.mean) if volume.meta.get("timid") else rows


def variety(host: Host, store: FeatureStore, real: list[Volume], other: list[Volume]) -> Iterator[Check]:
    """Other real cases, as they are and with features that vary by 0.6 of what they do."""
    timid = FeatureStore({"volumes": Timid(store.extractor("volumes"), other)})
    chunks = ("frechet-chunks", {"features": "volumes"})
    found: dict[str, list[float]] = {"all": [], "chunks": []}
    for seen, marks in ((store, {}), (timid, {"timid": True})):
        pairs = [(one, Volume(two.hu, two.affine, marks)) for one, two in zip(real, other, strict=False)]
        items = (
            EvaluationItem(f"{k:03}", real=one, generated=two, features=seen.bank({"real": one, "generated": two}))
            for k, (one, two) in enumerate(pairs)
        )
        values = scores(host, seen, items, {"all": DISTANCES["frechet of volumes"], "chunks": chunks}).values
        found["all"].append(values["all"]["frechet"].value)
        found["chunks"].append(values["chunks"]["frechet_chunks"].value)
    true, chunked = found["all"], found["chunks"]
    yield Check("frechet of volumes: too little variety", true, true[1] > true[0], "rises")
    name = "frechet of chunks of 4, as in vlm3d-2025: too little variety"
    yield Check(name, chunked, chunked[1] < chunked[0], "falls: that protocol's known fault, reproduced")


def labels(count: int = 400) -> Iterator[Check]:
    random = np.random.default_rng(0)
    truth = (random.random((count, len(LABELS))) < 0.35).astype(float)
    ones = np.ones(count, np.int64)
    found = truth + random.normal(0, 0.5, truth.shape)
    for name, rows in (("own", np.arange(count)), ("shuffled", random.permutation(count))):
        values = [auroc(found[:, k], truth[rows, k], ones) or 0.0 for k in range(len(LABELS))]
        mean = float(np.mean(values))
        right = abs(mean - 0.5) < 0.02 if name == "shuffled" else mean > 0.85
        yield Check(f"label AUROC: {name} labels", [mean], right, "0.5 +- 0.02" if name == "shuffled" else "above 0.85")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=Path, help="real scans (.nii.gz, .nii, .mha) instead of simulated ones")
    parser.add_argument("--cases", type=int, default=64)
    parser.add_argument("--size", type=lambda text: tuple(map(int, text.split(","))), default=(48, 64, 64))
    parser.add_argument("-o", "--out", type=Path, default=Path("benchmarks/metric_validity/results"))
    arguments = parser.parse_args()
    host = Host.discover()
    extractors = {
        "slices": host.create("feature_extractor", "hu-stats"),
        "volumes": host.create("feature_extractor", "hu-stats", unit="volume"),
    }
    store = FeatureStore(extractors)
    volumes = volumes_of(arguments, host)
    real, other = volumes[::2], volumes[1::2]
    checks = [
        *monotone(host, store, real, other), *variety(host, store, real, other), *seams(host, store, real),
        *copies(host, store, real, other), *labels(),
    ]  # fmt: skip
    source = f"{len(volumes)} {'simulated chests' if arguments.scans is None else 'real scans'} of {volumes[0].shape} voxels"
    lines = ["# Do the metrics see what they are for?", "", f"{source}; features: hu-stats.", ""]
    lines += ["| check | values | wanted | |", "|---|---|---|---|"]
    for check in checks:
        shown = ", ".join(f"{value:.4g}" for value in check.values)
        lines.append(f"| {check.name} | {shown} | {check.wanted} | {'yes' if check.passed else '**NO**'} |")
    write_text(arguments.out / "study.md", "\n".join(lines) + "\n")
    write_json(arguments.out / "study.json", {"source": source, "checks": [asdict(check) for check in checks]})
    print("\n".join(lines))
    return 0 if all(check.passed for check in checks) else 1


if __name__ == "__main__":
    raise SystemExit(main())
