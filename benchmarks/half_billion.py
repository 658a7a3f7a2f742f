"""One training step and one sampled block of recipes/ctflow-ct-rate.yaml (0.5 billion parameters): seconds, memory.

    python benchmarks/half_billion.py [--size L] [--steps 25] [--batch 1] [--limit-gib 24] [-o benchmarks/results]

Each part runs in a process of its own, whose peak resident memory is read at its end. Training: the recipe's objective, AdamW,
clipping and averaged weights on one block of 16 x 32 x 32 latent cells with context, bfloat16 products (autocast) on float32
weights, gradient checkpointing; the step includes the backward pass and both updates. Sampling: weights in bfloat16, Euler.
Weights are random: neither time nor memory depends on their values. On a CPU; ends with code 1 if a part is over the limit.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from ctgen_ctflow.configs import SIZES, StditConfig
from ctgen_ctflow.stdit import Stdit
from torch import Tensor, nn

from ctgen import load_recipe
from ctgen.atomic import write_json, write_text
from ctgen.interfaces import Condition, TextFeatures
from ctgen.recipe import Recipe
from ctgen.train.latent_flow import LatentFlow
from ctgen.train.optimiser import Average, lr_at, make_optimiser

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "ctflow-ct-rate.yaml"
PARTS = ("training step", "sampled block")
WARM = 2
"""Training steps; the last is measured, when the optimiser's moments exist."""


def backbone_of(recipe: Recipe, size: str, *, checkpointing: bool) -> Stdit:
    """The recipe's backbone with random weights, in another of the paper's sizes if asked for."""
    fields = {**recipe.use("backbone").config.model_dump(), "size": None, **SIZES[size], "weights": "random"}
    config = StditConfig.model_validate({**fields, "gradient_checkpointing": checkpointing})
    torch.manual_seed(0)
    return Stdit(config, latent=recipe.sizes().latent, text=recipe.sizes().text)


def block_of(recipe: Recipe, batch: int) -> tuple[Tensor, Tensor, TextFeatures]:
    """(noise, context, text) of one block of the recipe's volumes."""
    sizes, generator = recipe.sizes(), torch.Generator().manual_seed(1)
    shape = (batch, sizes.latent.channels, sizes.block, *sizes.grid[1:])
    noise, context = (torch.randn(shape, generator=generator) for _ in range(2))
    pooled = nn.functional.normalize(torch.randn(batch, sizes.text.pooled_width or 1, generator=generator), dim=-1)
    tokens = torch.randn(batch, 1, sizes.text.width, generator=generator)
    return noise, context, TextFeatures(tokens, torch.ones(batch, 1, dtype=torch.bool), pooled)


def train(recipe: Recipe, size: str, batch: int) -> dict[str, Any]:
    model = backbone_of(recipe, size, checkpointing=True).train()
    components = {"backbone": model, "autoencoder": nn.Identity()}
    objective = LatentFlow(
        recipe.objective.config,  # type: ignore[arg-type]  # the recipe's objective is latent-flow
        components=components,
        schedule=recipe.build("schedule"),
        rollout=recipe.build("rollout"),
    )
    settings = recipe.train
    optimiser = make_optimiser(model, settings, lr=settings.lr)
    average = Average(model)
    clean, context, text = block_of(recipe, batch)
    known = {"position": torch.tensor([[16.0, 256.0]] * batch), "spacing": torch.ones(batch, 3)}
    generator = torch.Generator().manual_seed(2)
    seconds, losses = [], []
    for step in range(1, WARM + 1):
        started = time.perf_counter()
        for group in optimiser.param_groups:
            group["lr"] = lr_at(step, settings)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=settings.precision == "bf16"):
            loss = objective.loss({"target": clean, "context": context, "text": text, **known}, step, generator)["loss"]
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        optimiser.step()
        optimiser.zero_grad()
        average.update(model, settings.ema_decay)
        seconds.append(time.perf_counter() - started)
        losses.append(float(loss.detach()))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {"seconds": seconds[-1], "losses": losses, "parameters": parameters, "batch": batch}


@torch.inference_mode()
def sample(recipe: Recipe, size: str, steps: int) -> dict[str, Any]:
    model = backbone_of(recipe, size, checkpointing=False).eval().bfloat16()
    z, context, text = block_of(recipe, 1)
    condition = Condition(text, context=context, position=torch.tensor([[16.0, 256.0]]))
    times = recipe.build("schedule").sampling_times(steps, z[0, 0].numel()).tolist()
    seconds = []
    for now, after in itertools.pairwise(times):
        started = time.perf_counter()
        z = z + (after - now) * model(z, torch.tensor([now]), condition).float()
        seconds.append(time.perf_counter() - started)
    assert z.isfinite().all()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {"seconds": sum(seconds), "evaluations": len(seconds), "parameters": parameters, "slowest": max(seconds)}


def high_water_gib() -> float:
    """Of this process. Linux hands ru_maxrss on from the process that started it: its own count is read where there is one."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def report(facts: dict[str, Any]) -> str:
    training, block = (facts[part] for part in PARTS)
    each = block["seconds"] / block["evaluations"]
    head = f"# Size {facts['size']}: {training['parameters']:,} parameters"
    rows = [
        ("one training step", f"batch {training['batch']}, bf16, gradient checkpointing, AdamW and averaged weights", training),
        ("one sampled block", f"{block['evaluations']} Euler steps, bf16: {each:.2f} s per evaluation", block),
    ]
    lines = [head, "", f"{facts['machine']}. Block of 16 x 32 x 32 latent cells with context.", ""]
    lines += ["| | | s | peak memory, GiB |", "|---|---|---|---|"]
    lines += [f"| {name} | {how} | {part['seconds']:.1f} | {part['peak_gib']:.1f} |" for name, how, part in rows]
    over = [name for name, _, part in rows if part["peak_gib"] > facts["limit_gib"]]
    state = f"over the limit: {', '.join(over)}" if over else "within it"
    return "\n".join([*lines, "", f"Limit {facts['limit_gib']:g} GiB: {state}."]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="L", choices=sorted(SIZES))
    parser.add_argument("--steps", type=int, default=25, help="solver steps of the sampled block")
    parser.add_argument("--batch", type=int, default=1, help="of the training step")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--limit-gib", type=float, default=24.0)
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("-o", "--out", type=Path, help="folder for half_billion.md and .json; without it nothing is written")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.part:
        recipe = load_recipe(RECIPE)
        training = options.part == PARTS[0]
        found = train(recipe, options.size, options.batch) if training else sample(recipe, options.size, options.steps)
        print(json.dumps({**found, "peak_gib": high_water_gib()}))
        return
    facts: dict[str, Any] = {"size": options.size, "limit_gib": options.limit_gib}
    facts["machine"] = f"torch {torch.__version__}, {options.threads} threads on {platform.machine()}"
    for part in PARTS:
        words = [sys.executable, __file__, "--part", part, "--size", options.size, "--steps", str(options.steps)]
        words += ["--batch", str(options.batch), "--threads", str(options.threads)]
        done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
        facts[part] = json.loads(done.stdout.splitlines()[-1])
    text = report(facts)
    print(text)
    if options.out is not None:
        write_text(options.out / "half_billion.md", text)
        write_json(options.out / "half_billion.json", facts)
    if any(facts[part]["peak_gib"] > options.limit_gib for part in PARTS):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
