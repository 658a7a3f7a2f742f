"""Config of the metric ``frechet-chunks``. Imports no torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ctgen.config import ComponentConfig


class FrechetChunksConfig(ComponentConfig):
    """Mean of the Frechet distances of chunks of pairs, as the VLM3D challenge of 2025 computes its FVD."""

    features: Annotated[str, Field(min_length=1)]
    """Key of the section ``extractors``; one row per volume."""
    chunk: Annotated[int, Field(ge=2)] = 4
    """Pairs per chunk, in order of case ids; a rest of one pair is left out."""
    resamples: Annotated[int, Field(ge=0)] = 100
