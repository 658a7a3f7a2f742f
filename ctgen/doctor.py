"""What this machine offers to ctgen, and what is wrong with it. Torch is imported last, and only for the devices."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from ctgen.host import Host

LIBRARIES = (
    "torch",
    "accelerate",
    "diffusers",
    "transformers",
    "numpy",
    "scipy",
    "h5py",
    "SimpleITK",
    "nibabel",
    "pydantic",
    "pluggy",
    "safetensors",
    "scikit-image",
    "torchmetrics",
)
LOW_DISK_GB = 5.0


@dataclass(frozen=True)
class Finding:
    """``state``: "ok"; "note" for what may surprise; "broken" for what stops ctgen itself."""

    topic: str
    value: str
    state: Literal["ok", "note", "broken"] = "ok"
    hint: str = ""


def examine(host: Host, *, devices: bool = True) -> Iterator[Finding]:
    """Findings in the order a reader needs them; ``devices`` imports torch."""
    yield Finding("python", f"{platform.python_version()} ({sys.executable})")
    yield Finding("system", f"{platform.system()} {platform.release()} {platform.machine()}")
    yield from _libraries()
    yield from _plugins(host)
    yield from _machine()
    yield from _disk()
    yield _hugging_face()
    if devices:
        yield from _devices()


def lines(finding: Finding) -> str:
    """A finding as text: a mark for what deserves a look, the hint below."""
    mark = {"ok": " ", "note": "!", "broken": "X"}[finding.state]
    text = f"{mark} {finding.topic:<17}{finding.value}"
    indent = "\n" + " " * 19
    return text + (indent + finding.hint.replace("\n", indent) if finding.hint else "")


def _libraries() -> Iterator[Finding]:
    for name in ("ctgen-framework", *LIBRARIES):
        try:
            yield Finding(name, metadata.version(name))
        except metadata.PackageNotFoundError:
            needed = name not in ("transformers", "diffusers")
            yield Finding(name, "not installed", "broken" if needed else "note", f"try: pip install {name}")


def _plugins(host: Host) -> Iterator[Finding]:
    for record in host.plugins:
        if record.error is None:
            yield Finding("plugin", f"{record.name}: {record.components} components ({record.distribution} {record.version})")
        else:
            hint = "\n".join(line for line in (record.hint, "details: ctgen ls plugins --traceback") if line)
            yield Finding("plugin", record.describe(), "note", hint)


def _machine() -> Iterator[Finding]:
    import psutil

    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = os.environ.get("OMP_NUM_THREADS")
    yield Finding("cpu", f"{affinity} cores usable" + (f", OMP_NUM_THREADS={threads}" if threads else ""))
    memory = psutil.virtual_memory()
    yield Finding("memory", f"{memory.available / 1e9:.1f} GB free of {memory.total / 1e9:.1f} GB")


def _disk() -> Iterator[Finding]:
    for topic, folder in (("disk, here", Path.cwd()), ("disk, temp", Path(tempfile.gettempdir()))):
        usage = shutil.disk_usage(folder)
        free = usage.free / 1e9
        low = free < LOW_DISK_GB
        hint = "runs and caches need a few GB" if low else ""
        yield Finding(topic, f"{free:.1f} GB free of {usage.total / 1e9:.1f} GB ({folder})", "note" if low else "ok", hint)


def _hugging_face() -> Finding:
    """Where downloaded weights lie, by the rules of huggingface_hub, without importing it."""
    home = Path(os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface").expanduser()
    cache = Path(os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or home / "hub").expanduser()
    offline = ", offline (HF_HUB_OFFLINE)" if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on") else ""
    token = "token found" if os.environ.get("HF_TOKEN") or (home / "token").is_file() else "no token"
    if not cache.is_dir():
        return Finding("hugging face", f"no cache yet at {cache}, {token}{offline}")
    models = sorted(found.name.removeprefix("models--").replace("--", "/") for found in cache.glob("models--*"))
    listed = ", ".join(models[:8]) + (", ..." if len(models) > 8 else "")
    return Finding("hugging face", f"{len(models)} models at {cache}, {token}{offline}", hint=listed)


def _devices() -> Iterator[Finding]:
    try:
        import torch
    except Exception as error:
        yield Finding(
            "devices", f"torch cannot be imported: {type(error).__name__}: {error}", "broken", "try: pip install torch"
        )
        return
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            bf16 = "" if torch.cuda.is_bf16_supported() else ", no bf16"
            yield Finding(f"cuda:{index}", f"{properties.name}, {properties.total_memory / 1e9:.0f} GB{bf16}")
    elif torch.version.cuda:
        yield Finding(
            "devices", "cpu only: torch has CUDA but sees no GPU", "note", "nvidia-smi shows whether the driver works"
        )
    elif torch.backends.mps.is_available():
        yield Finding("devices", "mps (Apple GPU)")
    else:
        yield Finding("devices", f"cpu only, {torch.get_num_threads()} threads")
