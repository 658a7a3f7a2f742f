"""An estimate as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ctgen.estimate.costs import Estimate, Work
    from ctgen.estimate.training import TrainingMemory
    from ctgen.recipe import Recipe

CHECKPOINTING = {"": "", "off": ", no gradient checkpointing", "on": ", gradient checkpointing"}

NOT_COUNTED = (
    "not counted: libraries (about half a GiB), and freed memory that glibc's heap keeps, up to half as much again;\n"
    "MALLOC_MMAP_THRESHOLD_=65536 in the environment makes it give that back"
)


def table(found: Estimate, recipe: Recipe) -> str:
    """Several sections of a few lines each; GiB are 2^30 bytes, TFLOP 10^12 operations, a multiply-add is two."""
    return "\n".join(
        [
            f"estimate for one process on {found.device.name}; nothing was allocated, no weights were read",
            *([NOT_COUNTED] if found.device.name == "cpu" else []),
            *_parameters(found),
            *_operations(found, recipe),
            *_training(found, recipe),
            *_sampling(found, recipe),
            *_cache(found),
        ]
    )


def _parameters(found: Estimate) -> Iterator[str]:
    yield "parameters"
    for section, part in found.parts.items():
        value = f"{part.parameters:>16,}" if part.parameters is not None else f"not known: {part.problem}"
        yield _line(f"{section} {part.use}", value)


def _operations(found: Estimate, recipe: Recipe) -> Iterator[str]:
    if not found.work:
        return
    yield "operations"
    if "backbone" in found.work:
        yield _line("backbone, one evaluation", _flops(found.work["backbone"], whole=False))
    total, known = 0, True
    labels = {
        "text": "text, one report",
        "encode": "encode a volume",
        "backbone": "denoise a volume",
        "decode": "decode a volume",
    }
    for name in ("encode", "text", "backbone", "decode"):
        if name not in found.work:
            continue
        work, note = found.work[name], ""
        if name == "backbone" and work.volume_flops is not None:
            least = "at least " if found.at_least else ""
            note = (
                f"  {found.blocks} blocks x {least}{found.evaluations_per_block} evaluations "
                f"({recipe.sample.solver}, {recipe.sample.steps} steps), {found.volume_slices} slices"
            )
        yield _line(labels[name], _flops(work, whole=True) + note)
        if name != "encode":
            known, total = known and work.volume_flops is not None, total + (work.volume_flops or 0)
    if "backbone" in found.work and known:
        yield _line("generate a volume", f"{total / 1e12:>16,.2f} TFLOP")


def _training(found: Estimate, recipe: Recipe) -> Iterator[str]:
    settings = recipe.train
    times = f" x {settings.accumulate}" if settings.accumulate > 1 else ""
    for name, memory in found.training.items():
        chosen = " (the recipe's choice)" if name and name == found.chosen else ""
        precision = {"no": "float32"}.get(settings.precision, settings.precision)
        yield f"memory for training, batch {settings.batch}{times}, {precision}{CHECKPOINTING[name]}{chosen}"
        yield from _memory(memory, found)


def _memory(memory: TrainingMemory, found: Estimate) -> Iterator[str]:
    if memory.problem:
        yield _line("not known", memory.problem)
        return
    rows = {
        "weights": memory.weights,
        "frozen parts": memory.frozen,
        "gradients": memory.gradients,
        "optimiser": memory.optimiser,
        "averaged weights": memory.average,
        "activations": memory.activations,
    }
    for name, size in rows.items():
        if size:
            yield _line(name, _gib(size))
    yield _line(_all(memory.without), _gib(memory.total) + _fits(memory.total, found))
    yield _line("operations per step", f"{memory.flops / 1e12:>16,.2f} TFLOP")


def _sampling(found: Estimate, recipe: Recipe) -> Iterator[str]:
    if "backbone" not in found.parts:
        return
    rows = f", {found.rows} rows with guidance" if found.rows != recipe.sample.batch else ""
    yield f"memory for sampling, float32, {recipe.sample.batch} at a time{rows}"
    if found.sampling_bytes is None:
        yield _line("not known", found.work["backbone"].problem)
        return
    yield _line("weights", _gib(sum(part.bytes for part in found.parts.values())))
    for name in ("text", "backbone", "decode"):
        if not found.work[name].problem:
            yield _line(f"{name}, while it runs", _gib(found.work[name].peak_bytes))
    yield _line(_all(found.sampling_without), _gib(found.sampling_bytes) + _fits(found.sampling_bytes, found))


def _cache(found: Estimate) -> Iterator[str]:
    if found.cache_bytes is not None:
        yield "latent cache"
        yield _line("each case", f"{found.cache_bytes / 2**20:>16,.1f} MiB  at most")


def _all(without: Sequence[str]) -> str:
    return f"without {', '.join(without)}" if without else "in all"


def _flops(work: Work, *, whole: bool) -> str:
    if work.problem:
        return f"not known: {work.problem}"
    flops = work.volume_flops if whole else work.flops
    return f"{(flops or 0) / 1e12:>16,.2f} TFLOP"


def _gib(size: int) -> str:
    return f"{size / 2**30:>16,.2f} GiB"


def _fits(size: int, found: Estimate) -> str:
    room = found.device
    verdict = "fits" if size <= 0.9 * room.bytes else "only just fits" if size <= room.bytes else "does not fit"
    return f"  {verdict}: {room.bytes / 2**30:,.1f} GiB {room.source}"


def _line(name: str, value: str) -> str:
    return f"  {name:<26}{value}"
