"""Weights of extractors: by path, checked by hash, never fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ctgen.atomic import sha256_of
from ctgen.errors import CheckpointError, MissingFileError
from ctgen.interfaces import WeightsInfo


def checked_file(path: str, sha256: str, *, extractor: str, how_to_get: str) -> WeightsInfo:
    """Provenance of the file; MissingFileError if it is not there, CheckpointError if its hash is not the one wanted."""
    file = Path(path)
    if not file.is_file():
        raise MissingFileError(f"{extractor}: weights not found; looked for {file}", hint=how_to_get)
    found = sha256_of(file)
    if sha256 and found != sha256:
        raise CheckpointError(
            f"{extractor}: {file} has the SHA-256 {found}, the config wants {sha256}",
            hint=f"another file gives other numbers and is another protocol; {how_to_get}",
        )
    return WeightsInfo("FILE", path, found)


def described(weights: WeightsInfo) -> dict[str, Any]:
    """As in FeatureExtractor.describe: the file's name without this machine's folders."""
    source = Path(weights.source).name if weights.label == "FILE" else weights.source
    return {"label": weights.label, "source": source, "sha256": weights.sha256}
