"""Reading for training: is the model ever waiting, and what do blocks save over whole volumes?

    python benchmarks/latent_reading.py [--repeats 5] [--reads 200] [--volumes 24] [-o benchmarks/results]

1. The training reader (LatentFlow.batch over an HDF5 cache: read, draw from the posterior, cut, pad the text) against a
   training step of the mini backbone (forward, backward, AdamW) on the same batches. Target: the reader is at least 20 times
   faster.
2. One random block of 16 latent slices with its 16 slices of context, at the size of the CTFlow release (16 channels, 32 x 32
   cells, 256 slices): from the cache, and by loading the volume's .pt file as the release does. Target: at least 5 times
   faster. Both give float32 moments; files are in the page cache, which favours the .pt files (a cold disk reads all of them).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from ctgen import Host
from ctgen.atomic import write_json, write_text
from ctgen.data.latents import LatentStore, merge_parts, write_index, write_part
from ctgen.data.prepared import PreparedCases
from ctgen.data.source import Source
from ctgen.interfaces import Posterior, TextFeatures
from ctgen.train.batches import generator_for

BACKBONE = {"layers": 6, "width": 192, "heads": 6, "weights": "random", "time_factor": 1000, "position_input": True}
SHARD = 8


def make_cache(root: Path, volumes: int, shape: tuple[int, int, int, int], *, pt: bool) -> Source:
    """``volumes`` random posteriors (c, d, h, w) as a cache, and (``pt``) each as float32 and float16 .pt files."""
    c, d, h, w = shape
    parts, places, cases = [], [], []
    for number in range(volumes):
        name, generator = f"case{number:03d}", torch.Generator().manual_seed(number)
        mean, logvar = torch.randn((1, c, d, h, w), generator=generator), torch.full((1, c, d, h, w), -6.0)
        text = TextFeatures(
            torch.randn((1, 180, 128), generator=generator), torch.ones((1, 180), dtype=torch.bool), torch.randn(1, 128)
        )
        write_part(root / "parts" / f"{name}.h5", Posterior(mean, logvar), text)
        parts.append((name, root / "parts" / f"{name}.h5"))
        places.append((name, f"shards/{number // SHARD}.h5", name))
        cases.append({"id": name, "split": "train"})
        write_json(root / "cases" / f"{name}.json", {"id": name, "spacing_mm": [3.0, 3.0, 3.0], "labels": None})
        if pt:
            for dtype in ("float32", "float16"):
                (root / dtype).mkdir(exist_ok=True)
                torch.save(torch.cat([mean, logvar], dim=1)[0].to(getattr(torch, dtype)), root / dtype / f"{name}.pt")
    for first in range(0, volumes, SHARD):
        merge_parts(parts[first : first + SHARD], root / "shards" / f"{first // SHARD}.h5")
    write_index(places, root / "latents.h5")
    write_json(root / "manifest.json", {"cases": cases, "skipped": []})
    return Source(PreparedCases(root), LatentStore(root / "latents.h5"), "train")


def seconds(work: Callable[[int], object], count: int) -> float:
    """Per call of ``work(number)``."""
    started = time.perf_counter()
    for number in range(count):
        work(number)
    return (time.perf_counter() - started) / count


def reader_and_model(root: Path, repeats: int) -> dict[str, list[float]]:
    host = Host.discover()
    autoencoder = host.create("autoencoder", "flux-vae", architecture="mini", weights="mini")
    text = host.configure("text_encoder", "ct-clip", layers=3, width=128, heads=4, max_tokens=256, weights="random").text_spec()
    backbone = host.create("backbone", "stdit", **BACKBONE, latent=autoencoder.latent, text=text)
    objective = host.create(
        "objective", "latent-flow", components={"autoencoder": autoencoder, "text_encoder": None, "backbone": backbone},
        schedule=host.create("schedule", "flow-matching", shift=3), rollout=host.create("rollout", "slice-blocks", block=16),
    )  # fmt: skip
    source = make_cache(root, 24, (16, 96, 16, 16), pt=False)
    objective.prepare(source)
    optimiser = torch.optim.AdamW(backbone.parameters(), lr=1e-4)

    def read(number: int) -> object:
        return objective.batch(source, 8, generator_for(0, number))

    batches = [read(number) for number in range(2)]

    def learn(number: int) -> None:
        optimiser.zero_grad()
        objective.loss(batches[number % 2], 1, generator_for(1, number))["loss"].backward()
        optimiser.step()

    learn(0)
    times: dict[str, list[float]] = {"read": [], "learn": []}
    for _ in range(repeats):
        times["read"].append(seconds(read, 20))
        times["learn"].append(seconds(learn, 2))
    return times


def blocks_and_files(root: Path, volumes: int, repeats: int, reads: int) -> dict[str, list[float]]:
    depth = 256
    source = make_cache(root, volumes, (16, depth, 32, 32), pt=True)

    def place(number: int) -> tuple[int, int]:
        generator = generator_for("block", number)
        return tuple(int(torch.randint(limit, (), generator=generator)) for limit in (volumes, depth - 32))  # type: ignore[return-value]

    def from_cache(number: int) -> Posterior:
        case, first = place(number)
        return source.posterior(case, slice(first, first + 32))

    def from_file(dtype: str, mmap: bool = False) -> Callable[[int], torch.Tensor]:
        def load(number: int) -> torch.Tensor:
            case, first = place(number)
            moments = torch.load(root / dtype / f"{source.ids[case]}.pt", weights_only=True, mmap=mmap)
            return moments[:, first : first + 32].float()

        return load

    ways: dict[str, Callable[[int], object]] = {
        "cache": from_cache,
        "pt float32": from_file("float32"),
        "pt float16": from_file("float16"),
        "pt float16, memory-mapped": from_file("float16", mmap=True),
    }
    mean, moments = from_cache(3).mean, from_file("float16")(3)
    assert torch.equal(mean[0], moments[:16])
    times: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, work in ways.items():
            found = seconds(work, reads if name == "cache" else max(1, reads // 5))
            if repeat:
                times[name].append(found)
    return times


def shown(values: list[float]) -> str:
    return f"{1e3 * statistics.median(values):.2f} ({1e3 * min(values):.2f} .. {1e3 * max(values):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--reads", type=int, default=200)
    parser.add_argument("--volumes", type=int, default=24)
    parser.add_argument("-o", "--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        training = reader_and_model(Path(one), arguments.repeats)
        blocks = blocks_and_files(Path(two), arguments.volumes, arguments.repeats, arguments.reads)
    middle = {name: statistics.median(values) for name, values in (training | blocks).items()}
    times = {
        name: middle["learn" if name == "read" else name] / middle["read" if name == "read" else "cache"] for name in middle
    }
    command = f"--repeats {arguments.repeats} --reads {arguments.reads} --volumes {arguments.volumes}"
    lines = [
        "# Reading latents for training",
        "",
        f"Milliseconds, median of {arguments.repeats} (range); files in the page cache. Python {platform.python_version()}, "
        f"torch {torch.__version__}, {os.cpu_count()} CPU cores, {torch.get_num_threads()} threads; "
        f"`python benchmarks/latent_reading.py {command}`.",
        "",
        "| batch of 8, mini scale (16 x 96 x 16 x 16) | ms | |",
        "|---|---|---|",
        f"| training reader, one process | {shown(training['read'])} | |",
        f"| training step of the mini backbone | {shown(training['learn'])} | **{times['read']:.0f} x** (target 20) |",
        "",
        "| one block of 16 + 16 slices of 16 x 256 x 32 x 32 | ms | against the cache |",
        "|---|---|---|",
        f"| ctgen's cache (HDF5, float16) | {shown(blocks['cache'])} | |",
    ]
    for name, values in blocks.items():
        if name != "cache":
            ratio = f"**{times[name]:.1f} x** (target 5)" if name == "pt float32" else f"{times[name]:.1f} x"
            lines.append(f"| {name.replace('pt', '.pt,')} | {shown(values)} | {ratio} |")
    write_text(arguments.out / "latent_reading.md", "\n".join(lines) + "\n")
    write_text(arguments.out / "latent_reading.json", json.dumps({"training": training, "blocks": blocks}, indent=1) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
