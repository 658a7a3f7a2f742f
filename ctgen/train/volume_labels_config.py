"""Config of the objective `volume-labels`. Imports no torch."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ctgen.train.volumes_config import Weight, WholeVolumesConfig


class VolumeLabelsConfig(WholeVolumesConfig):
    """A classifier learns which labels a volume has, for cases with labels."""

    trains: ClassVar[Literal["classifier"]] = "classifier"
    reads: ClassVar[Literal["volumes"]] = "volumes"
    sections: ClassVar[frozenset[str]] = frozenset({"classifier"})

    mask_weight: Weight = 0.0
    """Weight of where findings are: at each level of the network, which findings each part of the volume holds. For cases with
    masks (data set ``atlas-thorax``: masks=true), and a classifier that tells its parts (PlaceClassifier)."""
    valid_cases: Annotated[int, Field(ge=1)] = 256
    """Held-out cases at most that are scored for what is logged."""
