"""Speed and memory of the STDiT against the same network computed as CTFlow's published code does.

    python benchmarks/stdit_speed.py [--size S] [--grid 16,32,32] [--repeats 15] [--threads N] [-o benchmarks/results]

One block of latent slices (16 x 32 x 32 cells: 256 pixels), its context beside it, batch 1, one text vector. Both variants run
on the same weights in one process, in turn, so that a busy machine slows both alike. The reference variant: attention with all
products and copies made one by one and its softmax in float32, and cross-attention to the single text key per token, with its
query, softmax and projection. Peak memory is measured in a process of its own for each variant.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from ctgen_ctflow.configs import SIZES, StditConfig
from ctgen_ctflow.stdit import Stdit
from ctgen_ctflow.stdit_layers import NORM_EPS, Block, SelfAttention
from torch import Tensor

from ctgen.atomic import write_json, write_text
from ctgen.interfaces import Condition, LatentSpec, TextFeatures, TextSpec

VARIANTS = ("reference", "ctgen")
MODES = ("forward fp32", "forward bf16", "training step fp32", "training step bf16")
CHANNELS, TEXT_WIDTH = 16, 768


def reference_attention(attention: SelfAttention, x: Tensor) -> Tensor:
    """Unfused: scores are a tensor, their softmax is another, in float32."""
    batch, count, width = x.shape
    heads = attention.heads
    qkv = attention.qkv(x).reshape(batch, count, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    q, k, v = qkv.unbind(0)
    q = q * (width // heads) ** -0.5
    scores = (q @ k.transpose(-2, -1)).to(torch.float32).softmax(dim=-1).to(v.dtype)
    mixed = scores @ v
    if attention.swap_heads:
        mixed = mixed.transpose(1, 2)
    out: Tensor = attention.proj(mixed.reshape(batch, count, width))
    return out


def reference_cross_attention(block: Block, x: Tensor, y: Tensor) -> Tensor:
    """Every token asks the one key."""
    attention = block.cross_attn
    batch, count, width = x.shape
    q = attention.q_linear(x).view(batch, count, attention.heads, -1).transpose(1, 2)
    k, v = attention.kv_linear(y).view(batch, y.shape[1], 2, attention.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    scores = ((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)).to(torch.float32).softmax(dim=-1).to(v.dtype)
    mixed = (scores @ v).transpose(1, 2).reshape(batch, count, width)
    out: Tensor = attention.proj(mixed)
    return out


def reference_block(
    block: Block, x_BTSC: Tensor, t_B6C: Tensor, y: Tensor | None, mask: Tensor | None, positions: Tensor | None
) -> Tensor:
    batch, groups, cells, width = x_BTSC.shape

    def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        return F.layer_norm(x, (width,), eps=NORM_EPS) * (1 + scale) + shift

    shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = (block.scale_shift_table[None] + t_B6C).chunk(6, dim=1)
    x = x_BTSC.reshape(batch, groups * cells, width)
    space = modulated(x, shift_a, scale_a).reshape(batch * groups, cells, width)
    x = x + gate_a * reference_attention(block.attn, space).reshape(batch, groups * cells, width)
    over_time = x.reshape(batch, groups, cells, width).transpose(1, 2).reshape(batch * cells, groups, width)
    if positions is not None:
        over_time = over_time + positions[None]
    over_time = reference_attention(block.attn_temp, over_time).reshape(batch, cells, groups, width)
    x = x + gate_a * over_time.transpose(1, 2).reshape(batch, groups * cells, width)
    if y is not None:
        x = x + reference_cross_attention(block, x, y)
    hidden = F.gelu(block.mlp.fc1(modulated(x, shift_m, scale_m)), approximate="tanh")
    x = x + gate_m * block.mlp.fc2(hidden)
    done: Tensor = x.reshape(batch, groups, cells, width)
    return done


def as_reference(model: Stdit) -> Stdit:
    """The same parameters, other arithmetic."""
    twin = copy.copy(model)
    twin._modules = dict(model._modules)
    blocks = []
    for block in model.blocks:
        other = copy.copy(block)
        other.forward = MethodType(reference_block, other)  # type: ignore[method-assign]
        blocks.append(other)
    twin.blocks = torch.nn.ModuleList(blocks)
    return twin


def make(size: str, heads: str) -> Stdit:
    """Every parameter drawn: a fresh network's output is zero, and zero hides differences."""
    torch.manual_seed(0)
    config = StditConfig.model_validate({**SIZES[size], "attention_transpose": heads})
    model = Stdit(config, latent=LatentSpec(CHANNELS, (1, 8, 8)), text=TextSpec(TEXT_WIDTH, 512, TEXT_WIDTH))
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 1 / math.sqrt(parameter[0].numel()) if parameter.ndim > 1 else 0.02
            parameter.copy_(torch.randn(parameter.shape) * scale)
    return model


def inputs(grid: Sequence[int], dtype: torch.dtype) -> tuple[Tensor, Tensor, Condition]:
    generator = torch.Generator().manual_seed(1)
    noisy, context = (torch.randn(1, CHANNELS, *grid, generator=generator, dtype=torch.float32).to(dtype) for _ in range(2))
    pooled = F.normalize(torch.randn(1, TEXT_WIDTH, generator=generator), dim=-1).to(dtype)
    text = TextFeatures(pooled[:, None], torch.ones(1, 1, dtype=torch.bool), pooled)
    return noisy, torch.tensor([0.5]), Condition(text, context=context)


def runner(model: Stdit, mode: str, grid: Sequence[int]) -> Callable[[], Tensor]:
    """A function that does the work of ``mode`` once and returns the output."""
    training, low = mode.startswith("training"), mode.endswith("bf16")
    if not training:
        dtype = torch.bfloat16 if low else torch.float32
        noisy, times, condition = inputs(grid, dtype)

        def forward() -> Tensor:
            with torch.inference_mode():
                found: Tensor = model(noisy, times, condition)
            return found

        return forward
    noisy, times, condition = inputs(grid, torch.float32)

    def step() -> Tensor:
        for parameter in model.parameters():
            parameter.grad = None
        # As training does it: float32 weights, products in bfloat16.
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
            out: Tensor = model(noisy, times, condition)
            loss = (out.float() - noisy).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        return out.detach()

    return step


def peak(variant: str, mode: str, size: str, heads: str, grid: Sequence[int]) -> tuple[float, float]:
    """MiB: high water of this process after the work, and before it (program and model)."""
    model = make(size, heads)
    if mode == "forward bf16":
        model.bfloat16()
    work = runner(as_reference(model) if variant == "reference" else model, mode, grid)
    # Linux: the mark starts anew, so that making the model does not hide what the passes need.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    before = high_water()
    for _ in range(2):
        work()
    return high_water(), before


def high_water() -> float:
    """MiB. Linux hands ru_maxrss on from the process that started this one, so its own count is read where there is one."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_peaks(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for mode in options.modes:
        found[mode] = {}
        for variant in VARIANTS:
            words = [sys.executable, __file__, "--peak", variant, "--modes", mode, "--size", options.size]
            words += ["--heads", options.heads, "--grid", ",".join(map(str, options.grid))]
            words += ["--threads", str(options.threads)]
            done = subprocess.run(words, capture_output=True, text=True, check=True)
            total, before = json.loads(done.stdout.splitlines()[-1])
            found[mode] |= {variant: total, f"{variant} above the model": total - before}
    return found


def measure_times(options: argparse.Namespace) -> tuple[dict[str, dict[str, list[float]]], dict[str, float]]:
    """Seconds of each repeat by mode and variant, and how far the results are apart."""
    model = make(options.size, options.heads)
    low = copy.deepcopy(model).bfloat16()
    work = {}
    for mode in options.modes:
        base = low if mode == "forward bf16" else model
        work[mode] = {"reference": runner(as_reference(base), mode, options.grid), "ctgen": runner(base, mode, options.grid)}
    differences = compare(model, low, options.grid)
    seconds: dict[str, dict[str, list[float]]] = {mode: {variant: [] for variant in VARIANTS} for mode in options.modes}
    clock = time.process_time if options.cpu_time else time.perf_counter
    for repeat in range(options.repeats + 1):
        for mode in options.modes:
            for variant in VARIANTS if repeat % 2 else VARIANTS[::-1]:
                started = clock()
                work[mode][variant]()
                if repeat:  # the first one warms up
                    seconds[mode][variant].append(clock() - started)
    return seconds, differences


def compare(model: Stdit, low: Stdit, grid: Sequence[int]) -> dict[str, float]:
    """Largest difference by largest value: outputs in both precisions, and all gradients (norm by norm)."""
    twin = as_reference(model)
    exact = runner(twin, "forward fp32", grid)()

    def relative(found: Tensor) -> float:
        return float((found.float() - exact).abs().max() / exact.abs().max())

    result = {
        "ctgen fp32 to reference fp32": relative(runner(model, "forward fp32", grid)()),
        "ctgen bf16 to reference fp32": relative(runner(low, "forward bf16", grid)()),
        "reference bf16 to reference fp32": relative(runner(as_reference(low), "forward bf16", grid)()),
    }
    gradients = []
    for one in (twin, model):
        runner(one, "training step fp32", grid)()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    theirs, ours = gradients
    # With one key the query's gradient is zero but for rounding; ours does not compute it.
    errors = [float((ours[name] - theirs[name]).norm() / theirs[name].norm()) for name in ours if "q_linear" not in name]
    return result | {"gradients fp32, largest of all tensors": max(errors)}


def measure_kernels(options: argparse.Namespace) -> list[list[str]]:
    """Attention alone, of both kinds in the block, as two products and fused: milliseconds, forward and with backward."""
    numbers = SIZES[options.size]
    depth, height, width = (cells // 2 for cells in options.grid)
    rows = []
    for name, batch, count in (("over space", depth, height * width), ("over time", height * width, depth)):
        for dtype in (torch.float32, torch.bfloat16):
            shape = (batch, count, 3, numbers["heads"], numbers["width"] // numbers["heads"])
            qkv = torch.randn(shape).to(dtype).requires_grad_()

            def once(kernel: Callable[..., Tensor], backward: bool, qkv: Tensor = qkv) -> None:
                with torch.set_grad_enabled(backward):
                    out = kernel(*qkv.permute(2, 0, 3, 1, 4).unbind(0))
                    if backward:
                        torch.autograd.grad(out.sum(), qkv)

            cells = []
            for backward in (False, True):
                for kernel in (products, F.scaled_dot_product_attention):
                    seconds = []
                    for _ in range(options.repeats + 1):
                        started = time.process_time() if options.cpu_time else time.perf_counter()
                        once(kernel, backward)
                        seconds.append((time.process_time() if options.cpu_time else time.perf_counter()) - started)
                    cells.append(f"{statistics.median(seconds[1:]) * 1000:.2f}")
            rows.append([f"{name}, {batch} x {count} tokens", str(dtype).removeprefix("torch."), *cells])
    return rows


def products(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """What ``attend`` does in bfloat16 on the CPU."""
    batch, heads, count, size = q.shape
    q, k, v = (x.reshape(batch * heads, -1, size) for x in (q, k, v))
    scores = torch.baddbmm(q.new_empty(1, 1, 1), q, k.transpose(1, 2), beta=0, alpha=size**-0.5)
    return torch.bmm(scores.softmax(-1), v).view(batch, heads, count, size)


def report(facts: dict[str, Any]) -> str:
    """Markdown."""
    seconds, peaks = facts["seconds"], facts["peak_mib"]
    depth, height, width = facts["grid"]
    lines = [
        "# STDiT: speed and memory",
        "",
        f"Size {facts['size']} ({facts['parameters']:,} parameters), one block of {CHANNELS} x {depth} x {height} x {width} "
        f'latent cells with its context, batch 1, one text vector, head layout "{facts["heads"]}". {facts["machine"]}. '
        f"{facts['repeats']} repeats, both variants in turn in one process, same weights; {facts['clock']}. "
        "`reference`: unfused attention, cross-attention per token with a single key. Forward in bf16: weights in bfloat16; "
        "training in bf16: autocast.",
        "",
        "| | reference, s | ctgen, s | times faster | than the reference in fp32 |",
        "|---|---|---|---|---|",
    ]
    for mode, by_variant in seconds.items():
        cells = [_spread(by_variant[variant]) for variant in VARIANTS]
        ratio = statistics.median(by_variant["reference"]) / statistics.median(by_variant["ctgen"])
        exact = seconds.get(mode.replace("bf16", "fp32"))
        beside = statistics.median(exact["reference"]) / statistics.median(by_variant["ctgen"]) if exact else math.nan
        lines.append(f"| {mode} | {cells[0]} | {cells[1]} | {ratio:.2f} | {beside:.2f} |")
    lines += ["", "Median (25th to 75th percentile).", ""]
    if peaks:
        lines += ["| peak memory, MiB | reference | ctgen | above the model: reference | ctgen |", "|---|---|---|---|---|"]
        for mode, found in peaks.items():
            values = [found[variant] for variant in VARIANTS] + [found[f"{variant} above the model"] for variant in VARIANTS]
            lines.append(f"| {mode} | " + " | ".join(f"{value:,.0f}" for value in values) + " |")
        lines += ["", "High water of a process of its own, and how far it is above that before the first pass.", ""]
    lines += ["| results, largest difference / largest value | |", "|---|---|"]
    lines += [f"| {name} | {value:.1e} |" for name, value in facts["differences"].items()]
    lines += [
        "",
        "Attention alone, milliseconds; the backbone takes products in bfloat16 on the CPU, the fused kernel otherwise:",
        "",
    ]
    lines += [
        "| | | products, forward | fused, forward | products, with backward | fused, with backward |",
        "|---|---|---|---|---|---|",
    ]
    lines += ["| " + " | ".join(row) + " |" for row in facts["kernels"]]
    return "\n".join(lines) + "\n"


def _spread(values: Sequence[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def _grid(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="S", choices=("S", "B", "L"))
    parser.add_argument("--grid", default=(16, 32, 32), type=_grid)
    parser.add_argument("--heads", default="correct", choices=("correct", "released"))
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--cpu-time", action="store_true", help="Processor time, for busy machines.")
    parser.add_argument("--no-peaks", action="store_true")
    parser.add_argument("--peak", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("-o", "--out", type=Path, help="Folder for stdit_speed.md and .json; without it nothing is written.")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak:
        print(json.dumps(peak(options.peak, options.modes[0], options.size, options.heads, options.grid)))
        return
    seconds, differences = measure_times(options)
    facts = {
        "size": options.size,
        "parameters": sum(parameter.numel() for parameter in make(options.size, options.heads).parameters()),
        "grid": options.grid,
        "heads": options.heads,
        "repeats": options.repeats,
        "clock": "processor time" if options.cpu_time else "time on the wall",
        "machine": f"torch {torch.__version__}, {options.threads} threads on {platform.machine()} ({_cpu()})",
        "seconds": seconds,
        "peak_mib": {} if options.no_peaks else measure_peaks(options),
        "differences": differences,
        "kernels": measure_kernels(options),
    }
    text = report(facts)
    print(text)
    if options.out is not None:
        write_text(options.out / "stdit_speed.md", text)
        write_json(options.out / "stdit_speed.json", facts)


def _cpu() -> str:
    found = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in found.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
