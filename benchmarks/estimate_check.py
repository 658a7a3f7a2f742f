"""Is `ctgen validate --estimate` right? Its memory against what processes of their own take, on this machine's CPU.

Each case runs in a child, twice: first tiny, so that everything is imported and every kernel has been used; then the high-water
mark of resident memory (ru_maxrss) is noted, and the recipe's parts are built with random weights and make three training
steps, or sample one block and decode it. The growth of the mark is compared with the estimate:
once with glibc told to give back at once what is freed, which is what the recipe needs; and once as glibc comes, whose heap
keeps what is freed between tensors that live.

    python benchmarks/estimate_check.py                 # STDiT-S: 12 x 384, blocks of 16 x 32 x 32 cells; minutes, 4 GB
    python benchmarks/estimate_check.py --small         # a few seconds per case, to see that it works
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "ctflow.yaml"
COMMON = [
    "autoencoder.weights=random", "autoencoder.start=default", "text_encoder.weights=random", "backbone.weights=random",
    "backbone.skip=none", "backbone.detail=0", "train.warmup_steps=0", "sample.steps=2", "sample.solver=euler",
    "train.optimiser=adamw",
]  # fmt: skip
S = ["backbone.layers=12", "backbone.width=384", "backbone.heads=6", "prepare.size=[32,256,256]"]
SMALL = ["backbone.layers=8", "backbone.width=256", "backbone.heads=4", "prepare.size=[16,128,128]"]
TINY = ["backbone.layers=1", "backbone.width=32", "backbone.heads=2", "prepare.size=[16,32,32]"]
RETURNED = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
CASES: dict[str, list[str]] = {
    "train, fp32, batch 1": ["train.precision=no", "train.batch=1"],
    "train, bf16, batch 1": ["train.precision=bf16", "train.batch=1"],
    "train, bf16, batch 2 x 2": ["train.precision=bf16", "train.batch=2", "train.accumulate=2"],
    "train, bf16, batch 2, checkpointing": ["train.precision=bf16", "train.batch=2", "backbone.gradient_checkpointing=true"],
    "sample": [],
    "sample, batch 4": ["sample.batch=4"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")
    parser.add_argument("--child", nargs=2, metavar=("CASE", "OVERRIDES"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        case, overrides = given.child[0], json.loads(given.child[1])
        go(case, [*overrides, *TINY])
        before = high_water()
        go(case, overrides)
        print(json.dumps({"bytes": high_water() - before}))
        return
    rows = []
    for case, fields in CASES.items():
        overrides = [*COMMON, *(SMALL if given.small else S), *fields]
        command = [sys.executable, "-W", "ignore", __file__, "--child", case, json.dumps(overrides)]
        expected = estimated(case, overrides)
        measured, kept = (in_child(command, environment) for environment in (RETURNED, {}))
        ratios = {"ratio": round(expected / measured, 3), "ratio, default malloc": round(expected / kept, 3)}
        rows.append({"case": case, "estimated": expected, "measured": measured, "measured, default malloc": kept, **ratios})
        print(
            f"{case:36} estimated {expected / 2**20:6.0f} MiB, measured {measured / 2**20:6.0f} ({expected / measured:.2f}), "
            f"with the default malloc {kept / 2**20:6.0f} ({expected / kept:.2f})",
            flush=True,
        )
    if given.out:
        given.out.write_text(json.dumps({"small": given.small, "rows": rows}, indent=1) + "\n")
    wrong = [row["case"] for row in rows if abs(float(row["ratio"]) - 1) > 0.15]  # type: ignore[arg-type]
    print(f"off by more than 15 %: {', '.join(map(str, wrong)) or 'none'}")


def in_child(command: list[str], environment: dict[str, str]) -> int:
    made = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})
    return int(json.loads(made.stdout.splitlines()[-1])["bytes"])


def recipe_of(overrides: list[str]) -> Any:
    from ctgen.recipe import load_recipe

    return load_recipe(RECIPE, overrides)


def estimated(case: str, overrides: list[str]) -> int:
    import torch

    from ctgen.estimate.costs import estimate

    found = estimate(recipe_of(overrides), device=torch.device("cpu"))
    memory = found.training[found.chosen]
    total = found.sampling_bytes if case.startswith("sample") else memory.total
    assert total, [memory.problem, found.work]
    return total


def go(case: str, overrides: list[str]) -> None:
    """Train three steps, or sample."""
    import torch

    from ctgen.interfaces import CaseRequest, Report
    from ctgen.sample.generator import ComposedGenerator
    from ctgen.stages.components import build_components
    from ctgen.train.training import Training

    recipe = recipe_of(overrides)
    parts = build_components(recipe, data=False)
    if case.startswith("sample"):
        generator = ComposedGenerator(parts, recipe.prepare, recipe.sample)
        requests = [CaseRequest(str(number), Report("Opacity. " * 200), slices=16) for number in range(recipe.sample.batch)]
        list(generator.run_together(requests, 0))
        return
    parts["backbone"].train()
    for section in ("autoencoder", "text_encoder"):
        parts[section].eval().requires_grad_(False)
    objective = recipe.host.build(
        "objective", recipe.objective.name, recipe.objective.config,
        components={name: parts[name] for name in ("autoencoder", "text_encoder", "backbone")},
        schedule=parts["schedule"], rollout=parts["rollout"],
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        training = Training(objective, recipe.train, Path(folder), {})
        batches = (objective.batch(Cases(recipe), recipe.train.batch, torch.Generator()) for _ in range(99))
        for _ in range(3):
            training.advance(batches, lambda: False)


class Cases:
    """One case of random latents and features."""

    ids = ("case",)

    def __init__(self, recipe: Any) -> None:
        self.sizes, self.spacing = recipe.sizes(), recipe.prepare.spacing_mm

    def posterior(self, index: int, slices: slice | None = None) -> Any:
        import torch

        from ctgen.interfaces import Posterior

        mean = torch.randn(1, *self.latent_shape(index))
        return Posterior(mean if slices is None else mean[:, :, slices], None)

    def latent_shape(self, index: int) -> tuple[int, int, int, int]:
        return (self.sizes.latent.channels, *self.sizes.grid)

    def text(self, index: int) -> Any:
        import torch

        from ctgen.interfaces import TextFeatures

        text = self.sizes.text
        mask = torch.ones(1, text.max_tokens, dtype=torch.bool)
        return TextFeatures(torch.randn(1, text.max_tokens, text.width), mask, torch.randn(1, text.pooled_width))

    def record(self, index: int) -> dict[str, Any]:
        return {"spacing_mm": list(self.spacing)}


def high_water() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
