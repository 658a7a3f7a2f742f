"""Where a component's weights come from: shipped, random on purpose, a file, or the Hugging Face hub. Never by guess."""

from __future__ import annotations

import sys
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
"""Config field: "mini" (shipped), "random" (on purpose), a path, or "hf:owner/name[/sub/folder or file]"."""


def _not_random(ref: str) -> str:
    if ref == "random":
        raise ValueError("random weights measure nothing; write mini, a path or hf:owner/name")
    return ref


GivenWeights = Annotated[WeightsRef, AfterValidator(_not_random)]
"""A WeightsRef of what measures, and therefore never "random"."""


def locate(ref: str, *, component: str, shipped: Mapping[str, Path] | None = None, how_to_get: str = "") -> Path | None:
    """The file or folder that ``ref`` names; None for "random". Raises MissingFileError: what, where looked, how to get it."""
    if ref == "random":
        return None
    if ref == "mini":
        path = (shipped or {}).get("mini")
        if path is None or not path.exists():
            raise MissingFileError(
                f"{component}: no mini weights are shipped for this component",
                hint="\n".join(line for line in ("use weights=random or a path", how_to_get) if line),
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


def note(text: str) -> None:
    """Tell the user, once per process: on stderr, where progress and warnings go."""
    if text not in _noted:
        _noted.add(text)
        print(text, file=sys.stderr, flush=True)


_noted: set[str] = set()


def _from_hub(ref: str, component: str) -> Path:
    """Fetch a repository, a folder or a file of it. What is fetched, and where to, is said before anything is transferred."""
    owner, _, rest = ref.removeprefix("hf:").partition("/")
    name, _, inside = rest.partition("/")
    if not owner or not name or ".." in rest.split("/"):
        raise MissingFileError(f"{component}: {ref!r} is not of the form hf:owner/name or hf:owner/name/sub/folder")
    try:
        from huggingface_hub import constants, snapshot_download
    except ImportError as error:
        raise MissingFileError(f"{component}: {ref} needs huggingface_hub", hint="pip install huggingface_hub") from error
    cache = Path(constants.HF_HUB_CACHE)
    what = f"{inside or 'everything'} of {owner}/{name}"
    note(f"{component}: fetching {what} from the Hugging Face hub into {cache}; files that are there already are kept")
    try:
        root = Path(snapshot_download(f"{owner}/{name}", allow_patterns=[inside, f"{inside}/*"] if inside else None))
    except Exception as error:
        raise MissingFileError(
            f"{component}: could not get {what} from the Hugging Face hub: "
            f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}",
            hint="without a network: download the files elsewhere and give their path instead of hf:...\n"
            "private or gated: hf auth login",
        ) from error
    path = root / inside
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        raise MissingFileError(
            f"{component}: {owner}/{name} on the Hugging Face hub holds no {inside or 'files'} (in what was fetched to {root})",
            hint="without a network only earlier downloads are seen; otherwise the path inside the repository is misspelt",
        )
    return path
