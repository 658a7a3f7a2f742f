"""Generators whose place in any sound ranking is known before it is computed."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ctgen.atomic import stable_hash
from ctgen.errors import ConfigError, DataError
from ctgen.host import Host
from ctgen.interfaces import CaseRequest, Dataset, Report, WeightsInfo
from ctgen.sample.generator import reconstruct
from ctgen.stages.encode import decode_slices
from ctgen.volume import Volume
from ctgen.volume.orient import to_canonical
from ctgen.volume.resample import resample
from ctgen_baseline.configs import MeanVolumeConfig, NearestTrainConfig, NoiseConfig, VaeRoundtripConfig

AIR_HU = -1000
WORD = re.compile(r"[a-z]+|[0-9]+")


class MeanVolume:
    """The mean of the training volumes, voxel by voxel; a volume of another shape than the first is left out."""

    def __init__(self, config: MeanVolumeConfig) -> None:
        self.config = config
        self._mean: Volume | None = None
        self.left_out: list[str] = []

    def prepare(self, train: Dataset, held_out: Dataset) -> None:
        total: NDArray[np.float64] | None = None
        first, count = _volume(train, _first(train, "mean-volume")), 0
        for index in range(len(train)):
            volume = _volume(train, index)
            if volume.shape != first.shape:
                self.left_out.append(train.ids[index])
                continue
            total = volume.hu.astype(np.float64) if total is None else total + volume.hu
            count += 1
        assert total is not None
        self._mean = Volume(np.rint(total / count).astype(np.int16), first.affine)

    def generate(self, request: CaseRequest, seed: int) -> Volume:
        return fitted(_there(self._mean, "mean-volume"), request)


class NearestTrain:
    """The training scan whose report is nearest: cosine of word counts, rare words weighing more (tf-idf)."""

    def __init__(self, config: NearestTrainConfig) -> None:
        self.config = config
        self._train: Dataset | None = None
        self._vectors: list[tuple[int, Mapping[str, float]]] = []
        self._rarity: Mapping[str, float] = {}

    def prepare(self, train: Dataset, held_out: Dataset) -> None:
        _first(train, "nearest-train")
        counts = [(index, words(report)) for index in range(len(train)) if (report := train[index].report) is not None]
        if not counts:
            raise DataError("nearest-train: no training case has a report")
        documents = Counter(word for _, counted in counts for word in counted)
        self._rarity = {word: math.log((1 + len(counts)) / (1 + number)) + 1 for word, number in documents.items()}
        self._vectors = [(index, self._vector(counted)) for index, counted in counts]
        self._train = train

    def nearest(self, report: Report, count: int) -> list[int]:
        """Indices of training cases, the nearest first; of equally near ones the first."""
        asked = self._vector(words(report))
        near = [(-sum(weight * of.get(word, 0.0) for word, weight in asked.items()), index) for index, of in self._vectors]
        return [index for _, index in sorted(near)[:count]]

    def generate(self, request: CaseRequest, seed: int) -> Volume:
        train = _there(self._train, "nearest-train")
        near = self.nearest(request.report, self.config.copies)
        chosen = near[stable_hash(seed, request.id) % len(near)]
        return fitted(_volume(train, chosen), request)

    def _vector(self, counted: Mapping[str, int]) -> Mapping[str, float]:
        """Of length 1; words that no training report has are left out."""
        weights = {word: (1 + math.log(number)) * self._rarity.get(word, 0.0) for word, number in counted.items()}
        length = math.sqrt(sum(weight**2 for weight in weights.values())) or 1.0
        return {word: weight / length for word, weight in weights.items()}


class VaeRoundtrip:
    """Encodes the held-out scan that has the request's id, takes the posterior's mean, and decodes it."""

    def __init__(self, config: VaeRoundtripConfig, *, host: Host) -> None:
        self.config = config
        self.autoencoder = _autoencoder(config.autoencoder, host, "vae-roundtrip")
        self.weights: WeightsInfo = self.autoencoder.weights
        self._held_out: Dataset | None = None
        self._index: dict[str, int] = {}

    def prepare(self, train: Dataset, held_out: Dataset) -> None:
        self._held_out = held_out
        self._index = {case_id: index for index, case_id in enumerate(held_out.ids)}

    def generate(self, request: CaseRequest, seed: int) -> Volume:
        held_out = _there(self._held_out, "vae-roundtrip")
        if request.id not in self._index:
            raise DataError(f"vae-roundtrip: there is no scan of case {request.id!r}", hint="ask for cases of the suite")
        with torch.inference_mode():
            volume = reconstruct(self.autoencoder, _volume(held_out, self._index[request.id]), torch.device("cpu"))
        return fitted(volume, request)


class Noise:
    """See NoiseConfig. Volumes have the shape, spacing and place of the first training case."""

    def __init__(self, config: NoiseConfig, *, host: Host) -> None:
        self.config = config
        self.autoencoder = None if config.space == "hu" else _autoencoder(config.autoencoder, host, "noise")
        self.weights = WeightsInfo("NONE") if self.autoencoder is None else self.autoencoder.weights
        self._like: Volume | None = None
        self._values: NDArray[np.int16] = np.empty(0, np.int16)
        self._cumulative: NDArray[np.float64] = np.empty(0)

    def prepare(self, train: Dataset, held_out: Dataset) -> None:
        self._like = _volume(train, _first(train, "noise"))
        if self.config.space == "latent":
            return
        counts = np.zeros(1 << 16, np.int64)
        for index in range(len(train)):
            hu = np.rint(_volume(train, index).hu).astype(np.int32)
            counts += np.bincount(np.clip(hu, -32768, 32767).ravel() + 32768, minlength=1 << 16)
        found = np.flatnonzero(counts)
        self._values = (found - 32768).astype(np.int16)
        self._cumulative = np.cumsum(counts[found]) / counts.sum()

    def generate(self, request: CaseRequest, seed: int) -> Volume:
        like, draw = _there(self._like, "noise"), stable_hash(seed, request.id)
        if self.autoencoder is None:
            uniform = np.random.Generator(np.random.PCG64(draw)).random(like.shape)
            chosen = np.searchsorted(self._cumulative, uniform, side="right").clip(0, len(self._values) - 1)
            return fitted(Volume(self._values[chosen], like.affine), request)
        spec = self.autoencoder.latent
        generator = torch.Generator().manual_seed(draw)
        latent = torch.randn((1, spec.channels, *spec.grid(like.shape)), generator=generator)
        low, high = self.autoencoder.hu_range
        with torch.inference_mode():
            hu = decode_slices(self.autoencoder, latent, torch.device("cpu")).clamp(low, high)
        return fitted(Volume(hu.round().numpy().astype(np.int16), like.affine), request)


def words(report: Report) -> Counter[str]:
    """How often each word or number occurs in findings and impression."""
    return Counter(WORD.findall(f"{report.findings} {report.impressions}".lower()))


def fitted(volume: Volume, request: CaseRequest) -> Volume:
    """``volume`` in the spacing asked for, its slices cut at the top, or continued with air, to the number asked for."""
    if request.spacing_mm is not None and request.spacing_mm != volume.spacing_mm:
        volume = resample(volume, request.spacing_mm)
    hu = np.rint(volume.hu[: request.slices]).astype(np.int16)
    if missing := (request.slices or 0) - len(hu):
        hu = np.pad(hu, ((0, max(missing, 0)), (0, 0), (0, 0)), constant_values=AIR_HU)
    return Volume(hu, volume.affine)


def _first(train: Dataset, name: str) -> int:
    if not len(train):
        raise DataError(f"{name} needs training cases, and there are none")
    return 0


def _volume(cases: Dataset, index: int) -> Volume:
    return to_canonical(cases[index].volume)[0]


def _there(found: Any, name: str) -> Any:
    if found is None:
        raise DataError(f"{name} has not seen any cases yet: call prepare(train, held_out) first")
    return found


def _autoencoder(section: Mapping[str, Any], host: Host, owner: str) -> Any:
    fields = dict(section)
    use = fields.pop("use", None)
    if use is None:
        raise ConfigError(f"{owner}: autoencoder: use is missing", hint="write autoencoder: {use: NAME, ...}")
    return host.create("autoencoder", str(use), **fields).eval()
