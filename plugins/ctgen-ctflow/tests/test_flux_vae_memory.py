"""How many slices go at a time: the estimate against measured memory, free memory, bounds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ctgen_ctflow import flux_vae_memory as memory
from ctgen_ctflow.flux_vae import FluxVae
from ctgen_ctflow.flux_vae_config import FluxVaeConfig
from ctgen_ctflow.taef1 import Taef1
from ctgen_ctflow.taef1_config import Taef1Config

CPU = torch.device("cpu")
SIDE, SLICES = 256, 2
SMALL = {"widths": (32, 64, 64, 64), "layers": 1, "weights": "random", "chunk": SLICES}
CODECS = {
    "float32": lambda: FluxVae(FluxVaeConfig(**SMALL)),
    "bfloat16": lambda: FluxVae(FluxVaeConfig(**SMALL, precision="bfloat16")),
    "taef1": lambda: Taef1(Taef1Config(weights="random", chunk=SLICES)),
}
MEASURE = """
import json, os, resource, sys
sys.path.insert(0, sys.argv[1])
import torch
from test_flux_vae_memory import CODECS, SIDE, SLICES, peak_of_a_pass
torch.set_num_threads(1)
for kind in CODECS:
    for decode in (False, True):
        # a process of its own for each: the peak of a process never falls again
        sys.stdout.flush()
        if not (child := os.fork()):
            print(json.dumps([kind, decode, peak_of_a_pass(kind, decode)]), flush=True)
            os._exit(0)
        os.waitpid(child, 0)
"""


def peak_of_a_pass(kind: str, decode: bool) -> int:
    """Bytes by which a pass of SLICES slices raises this process's peak memory."""
    import resource

    codec = CODECS[kind]().eval()
    unit = 1 if sys.platform == "darwin" else 1024

    def run(slices: int, side: int) -> None:
        size = (slices, 16, side // 8, side // 8) if decode else (slices, 3, side, side)
        given = torch.zeros(size).contiguous(memory_format=torch.channels_last)
        (codec.decode_slices if decode else codec.encode_slices)(given)

    with torch.inference_mode():
        run(1, 64)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        run(SLICES, SIDE)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit


@pytest.mark.skipif(not hasattr(os, "fork"), reason="measures by fork and resource, which are for POSIX systems")
def test_estimates_are_near_what_is_measured() -> None:
    """Peak resident memory, 2 slices of 256 x 256: an estimate may be 30 % too low or 40 % too high."""
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=True,
        # otherwise freed blocks below glibc's sliding threshold stay with the process and count as used
        env={**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "1048576"},
    )
    shares = {}
    for line in run.stdout.splitlines():
        kind, decode, measured = json.loads(line)
        shares[kind, decode] = SLICES * CODECS[kind]().pass_bytes(SIDE, SIDE, decode=decode) / measured
    assert len(shares) == 6
    assert all(0.7 <= share <= 1.4 for share in shares.values()), shares


def test_published_sizes() -> None:
    """At 256 px FLUX's decoder holds 640 channels of the whole slice, in bfloat16 half of it."""
    config = FluxVaeConfig(weights="random")
    half = FluxVaeConfig(weights="random", precision="bfloat16")
    assert memory.decode_bytes(config, 256, 256) == pytest.approx(640 * 256 * 256 * 4, rel=0.3)
    assert memory.decode_bytes(half, 256, 256) <= 0.6 * memory.decode_bytes(config, 256, 256)
    assert memory.decode_bytes(config, 512, 512) == pytest.approx(4 * memory.decode_bytes(config, 256, 256), rel=0.01)
    assert memory.encode_bytes(config, 256, 256) < memory.decode_bytes(config, 256, 256)
    # 1024 px: attention over 16384 cells in bfloat16 goes through the fused kernel, which keeps no table of scores
    assert memory.decode_bytes(half, 1024, 1024) < 2 * 16 * memory.decode_bytes(half, 256, 256)


@pytest.mark.parametrize(("free", "slices"), [(0, 1), (1000, 1), (8000, 4), (31_999, 15), (10**12, 16)])
def test_chunks_follow_free_memory_within_bounds(monkeypatch: pytest.MonkeyPatch, free: int, slices: int) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: free)
    assert memory.slices_per_pass(1000, CPU) == slices


def test_free_memory_of_this_machine() -> None:
    assert 2**20 < memory.free_bytes(CPU) < 2**50


def test_free_memory_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the driver has, and what torch has reserved and does not use."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 70)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 50)
    assert memory.free_bytes(torch.device("cuda", 0)) == 120
    monkeypatch.setattr(torch, "mps", SimpleNamespace(recommended_max_memory=lambda: 9, driver_allocated_memory=lambda: 4))
    assert memory.free_bytes(torch.device("mps")) == 5


def test_meminfo_and_its_absence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 99 kB\nMemAvailable:    2048 kB\n", encoding="ascii")
    assert memory._available(tmp_path / "meminfo") == 2048 * 1024
    sizes = {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)
    assert memory._available(tmp_path / "absent") == 1000 * 4096 // 2
    monkeypatch.delattr(os, "sysconf")
    assert memory._available(tmp_path / "absent") is None
    monkeypatch.setattr(memory, "_available", lambda: None)
    monkeypatch.setattr(memory, "_group_limit", lambda: None)
    assert memory.free_bytes(CPU) == memory.UNKNOWN
    monkeypatch.setattr(memory, "_group_limit", lambda: 7)
    assert memory.free_bytes(CPU) == 7


def test_a_containers_limit(tmp_path: Path) -> None:
    assert memory._group_limit(tmp_path) is None
    for name, text in {"memory.max": "max", "memory.current": "40", "memory.stat": "anon 30\ninactive_file 10\n"}.items():
        (tmp_path / name).write_text(text, encoding="ascii")
    assert memory._group_limit(tmp_path) is None
    (tmp_path / "memory.max").write_text("100\n", encoding="ascii")
    assert memory._group_limit(tmp_path) == 70


def test_auto_is_what_a_component_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    from ctgen_ctflow import flux_vae_slices

    asked: list[int] = []
    monkeypatch.setattr(flux_vae_slices, "slices_per_pass", lambda size, device: asked.append(size) or 2)
    vae = FluxVae(FluxVaeConfig(weights="random", architecture="mini", widths=(8, 8, 16, 16))).eval()
    passed: list[int] = []
    inner = vae.passes.decode
    monkeypatch.setattr(vae.passes, "decode", lambda raw: passed.append(len(raw)) or inner(raw))
    with torch.no_grad():
        vae.decode(torch.zeros(1, 16, 5, 2, 2))
    assert passed == [2, 2, 1] and asked == [memory.decode_bytes(vae.config, 16, 16)]
