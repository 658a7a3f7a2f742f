"""FLUX's autoencoder in bfloat16 and channels-last memory beside float32, in one run with the same random weights.

    python benchmarks/flux_vae_speed.py [--pixels 256] [--slices 1] [--repeats 5] [-o benchmarks/results]

Three ways, taking turns in each repeat so that a busy moment of the machine hits all of them:

- diffusers: AutoencoderKL's own encode and decode in float32, NCHW memory;
- float32: `flux-vae` as it is by default (channels last, sums in place; the same numbers bit for bit);
- bfloat16: `flux-vae` with `precision: bfloat16` (see ctgen_ctflow/flux_vae_pass.py for what stays float32).

Seconds per slice, median of the repeats and their range. Speed does not depend on the weights' values.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ctgen import Host
from ctgen.atomic import write_text

BASE = "diffusers, float32"
Pass = Callable[[], Tensor]


def passes(pixels: int, slices: int, widths: list[int] | None) -> dict[str, dict[str, Pass]]:
    """way -> {encode, decode}: each runs ``slices`` slices once."""
    host, generator = Host.discover(), torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    fields: dict[str, Any] = {"weights": "random", "chunk": slices, **({"widths": widths} if widths else {})}
    full: Any = host.create("autoencoder", "flux-vae", **fields).eval()
    half: Any = host.create("autoencoder", "flux-vae", precision="bfloat16", **fields).eval()
    half.load_state_dict(full.state_dict())
    plain: Any = type(full.vae).from_config(full.vae.config).eval()
    plain.load_state_dict(full.vae.state_dict())
    image = torch.rand(slices, 3, pixels, pixels, generator=generator) * 0.8333
    stride = full.latent.stride[-1]
    raw = torch.randn(slices, full.latent.channels, pixels // stride, pixels // stride, generator=generator)
    image_last, raw_last = (x.contiguous(memory_format=torch.channels_last) for x in (image, raw))
    return {
        BASE: {
            "encode": lambda: plain.encode(image).latent_dist.parameters,
            "decode": lambda: plain.decode(raw).sample,
        },
        "flux-vae, float32": {
            "encode": lambda: full.encode_slices(image_last),
            "decode": lambda: full.decode_slices(raw_last),
        },
        "flux-vae, bfloat16": {
            "encode": lambda: half.encode_slices(image_last),
            "decode": lambda: half.decode_slices(raw_last),
        },
    }


@torch.inference_mode()
def measure(ways: dict[str, dict[str, Pass]], repeats: int) -> list[dict[str, Any]]:
    """A row per way and step: seconds of every repeat, and the difference from diffusers as a share of the result's spread."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for step in ("encode", "decode"):
        wanted = ways[BASE][step]()
        for name, way in ways.items():
            # also warms up: kernels are chosen and bfloat16 weights made
            apart = float((way[step]() - wanted).square().mean().sqrt() / wanted.std())
            rows[name, step] = {"way": name, "step": step, "rms_from_diffusers": apart, "seconds": []}
    for repeat in range(repeats):
        for (name, step), row in rows.items():
            started = time.perf_counter()
            ways[name][step]()
            row["seconds"].append(time.perf_counter() - started)
            print(f"repeat {repeat + 1}: {step}, {name}: {row['seconds'][-1]:.2f} s", flush=True)
    return list(rows.values())


def instruction_set() -> str:
    """The best that torch's kernels can use here."""
    names = []
    for name in ("avx2", "avx512", "avx512_bf16", "amx_tile"):
        found = getattr(torch.cpu, f"_is_{name}_supported", None)
        if found is not None and found():
            names.append(name)
    return ", ".join(names) or torch.backends.cpu.get_cpu_capability()


def write(rows: list[dict[str, Any]], options: argparse.Namespace) -> str:
    """flux_vae_speed.md and .json; returns the text."""
    facts = {
        "network": f"FLUX's layout, widths {options.widths or [128, 256, 512, 512]}, random weights",
        "input": f"{options.slices} slice(s) of {options.pixels} x {options.pixels} pixels at a time",
        "repeats": options.repeats,
        "threads": torch.get_num_threads(),
        "instruction set": instruction_set(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    medians = {(row["way"], row["step"]): statistics.median(row["seconds"]) / options.slices for row in rows}
    lines = ["# Speed of FLUX's autoencoder: bfloat16 beside float32", ""]
    lines += ["Seconds per slice: median (fastest to slowest repeat); all ways take turns in one run.", ""]
    lines += [
        "| step | way | s per slice | of diffusers' speed | of our float32's speed | rms from diffusers |",
        "|---" * 6 + "|",
    ]
    for row in rows:
        way, step = row["way"], row["step"]
        low, high = (end / options.slices for end in (min(row["seconds"]), max(row["seconds"])))
        gains = [medians[other, step] / medians[way, step] for other in (BASE, "flux-vae, float32")]
        lines.append(
            f"| {step} | {way} | {medians[way, step]:.2f} ({low:.2f} to {high:.2f}) | {gains[0]:.2f} x | {gains[1]:.2f} x "
            f"| {_share(row['rms_from_diffusers'])} |"
        )
    lines += ["", "rms from diffusers: of the result's spread. Random weights amplify rounding more than trained ones do.", ""]
    lines += [f"- {key}: {value}" for key, value in facts.items()]
    text = "\n".join(lines) + "\n"
    write_text(options.out / "flux_vae_speed.md", text)
    write_text(options.out / "flux_vae_speed.json", json.dumps({"facts": facts, "rows": rows}, indent=1) + "\n")
    return text


def _share(value: float) -> str:
    return "0" if value == 0 else f"{value:.0e} ({-20 * math.log10(value):.0f} dB)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pixels", type=int, default=256)
    parser.add_argument("--slices", type=int, default=1, help="at a time")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--widths", type=int, nargs="+", help="channels per level in place of FLUX's, to try the script")
    parser.add_argument("-o", "--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    rows = measure(passes(options.pixels, options.slices, options.widths), options.repeats)
    print(write(rows, options))


if __name__ == "__main__":
    main()
