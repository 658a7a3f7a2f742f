"""Where a component's weights come from: shipped, random on purpose, a file, or the Hugging Face hub. Never by guess."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from ctgen.atomic import sha256_of
from ctgen.errors import MissingFileError, did_you_mean
from ctgen.interfaces import WeightsInfo

NAMED = ("mini", "random")


def _absolute(ref: str) -> str:
    if ref in NAMED or ref.startswith("hf:"):
        return ref
    return str(Path(ref).expanduser().absolute())


WeightsRef = Annotated[str, AfterValidator(_absolute)]
"""Config field: "mini" (shipped), "random" (on purpose), a path, or "hf:owner/name[/sub/folder]"."""


def locate(ref: str, *, component: str, shipped: Mapping[str, Path] | None = None, how_to_get: str = "") -> Path | None:
    """The file or folder that ``ref`` names; None for "random". Raises MissingFileError: what, where looked, how to get it."""
    if ref == "random":
        return None
    if ref == "mini":
        path = (shipped or {}).get("mini")
        if path is None or not path.exists():
            raise MissingFileError(
                f"{component}: no mini weights are shipped for this component", hint="use weights=random or a path"
            )
        return path
    if ref.startswith("hf:"):
        return _from_hub(ref, component)
    path = Path(ref)
    if not path.exists():
        near = did_you_mean(path.name, NAMED)
        raise MissingFileError(
            f"{component}: weights not found; looked for {path}", hint="\n".join(line for line in (near, how_to_get) if line)
        )
    return path


def info(ref: str, path: Path | None) -> WeightsInfo:
    """Provenance for what ``locate`` found."""
    if path is None:
        return WeightsInfo("RANDOM", "random initialisation")
    return WeightsInfo("MINI" if ref == "mini" else "FILE", ref, sha256_of(path))


def _from_hub(ref: str, component: str) -> Path:
    owner, _, rest = ref.removeprefix("hf:").partition("/")
    name, _, folder = rest.partition("/")
    try:
        from huggingface_hub import snapshot_download

        root = snapshot_download(f"{owner}/{name}", allow_patterns=[f"{folder}/*"] if folder else None)
    except Exception as error:
        raise MissingFileError(
            f"{component}: could not get {ref} from the Hugging Face hub: {type(error).__name__}: {error}",
            hint="log in with `hf auth login`, or download the files and give their path",
        ) from error
    return Path(root) / folder
