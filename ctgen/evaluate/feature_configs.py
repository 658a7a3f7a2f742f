"""Configs of the metrics that compare features. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from ctgen.config import ComponentConfig
from ctgen.interfaces import Plane

Planes = Literal["xy", "xz", "yz", "2.5d", "volume"]
PLANES_OF: Mapping[str, tuple[Plane, ...]] = {
    "xy": ("xy",),
    "xz": ("xz",),
    "yz": ("yz",),
    "2.5d": ("xy", "xz", "yz"),
    "volume": ("xy",),
}

FeatureKey = Annotated[str, Field(min_length=1, description="key of the section `extractors`")]
Count = Annotated[int, Field(ge=1)]


class PlanesConfig(ComponentConfig):
    """What distances of feature sets share."""

    features: FeatureKey
    planes: Planes = "xy"
    """Slices of one plane, the mean of all three ("2.5d"), or "volume" for extractors with one row per volume."""


class FrechetConfig(PlanesConfig):
    """Frechet distance (FID, FVD) of real and generated features."""

    ddof: Literal[0, 1] = 1
    """Covariances are divided by rows - ddof; 0 as StyleGAN-V does."""
    resamples: Annotated[int, Field(ge=0)] = 100
    """For the interval; each is a distance of its own."""


class KidConfig(PlanesConfig):
    """Kernel distance (KID): unbiased at any number of volumes, unlike Frechet's."""

    degree: Count = 3
    """Of the polynomial kernel (x.y / width + 1)^degree."""


class InceptionScoreConfig(ComponentConfig):
    """Inception score: sharp and varied classes."""

    features: FeatureKey
    """Its extractor must classify."""
    planes: Literal["xy", "xz", "yz"] = "xy"
    splits: Count = 10
    """Rows in order of case ids are cut into so many parts; a random order would make the score depend on a seed."""
    resamples: Annotated[int, Field(ge=0)] = 100


class ClipScoreConfig(ComponentConfig):
    """100 times the cosine of a volume's features and its report's, and of those of the paired real scan."""

    features: FeatureKey
    """Its extractor must read reports, with one row per volume."""
    clipped: bool = False
    """Negative cosines count as 0, as in the published CLIP score."""


class LabelFaithfulnessConfig(ComponentConfig):
    """Are the labels that were asked for found in the generated volume?"""

    features: FeatureKey
    """Its extractor must find labels."""
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Scores from here on count as found, for F1."""


class TextGapConfig(ComponentConfig):
    """Does the text matter? Scores against a volume's own report, less those against other cases' and the empty report."""

    features: FeatureKey
    """Its extractor must read reports (CLIP score's gap), find labels (AUROC's gap), or both."""
    shuffles: Count = 4
    """Other reports per case, none of them its own."""
    seed: int = 0
    """Of the shuffling."""


class DiversityConfig(ComponentConfig):
    """Do the generated volumes differ among each other as real ones do?"""

    features: FeatureKey
    neighbours: Count = 5
    """k of density and coverage; at most the number of real cases less one."""
    pairs: Count = 2
    """Pairs per case for MS-SSIM: with the next cases in order of id."""
    slices: Count = 6
    """Axial slices per volume for MS-SSIM, evenly spaced."""
    pixels: Annotated[int, Field(ge=24, le=256)] = 64
    """Side to which slices are averaged for MS-SSIM."""
    window_hu: tuple[float, float] = (-1000.0, 1000.0)


class MemorisationConfig(ComponentConfig):
    """Are generated volumes copies of training cases?"""

    features: FeatureKey
    factor: Annotated[float, Field(gt=0, le=1)] = 0.5
    """A volume is a copy if it is nearer to a training case than this times the held-out scans' lower quantile."""
    quantile: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Of the distances of held-out scans to their nearest training case."""


class HuRealismConfig(ComponentConfig):
    """Shares, means and spreads of air, lung, fat, water and bone, and the texture's spectrum, case by case."""

    window_hu: tuple[float, float] = (-1024.0, 1500.0)
