"""What every rollout must do."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ctgen.errors import CtgenError
from ctgen.interfaces import BlockExample, Markers, RolloutResult
from ctgen.testing.expect import close, differs, equal, expect, global_rng_untouched, seeded, shaped

_START, _END = -50.0, 900.0
"""Values of the marker slices; slice i of the test volume holds i, so that a cell tells where it came from."""


def check_rollout(
    rollout: Any,
    *,
    shape: tuple[int, int, int] = (2, 3, 4),
    depths: tuple[int, ...] = (5, 24, 37),
    context_tolerance: float = 0.0,
) -> None:
    """Training blocks are slices of the volume and of nothing else; composed volumes have the depth, head and seams stated.

    ``shape`` (c, h, w); ``depths`` in latent slices; ``context_tolerance`` for a rollout that adds noise to its context.
    """
    markers = Markers(start=torch.full((shape[0], 1, *shape[1:]), _START), end=torch.full((shape[0], 1, *shape[1:]), _END))
    made = 0
    for depth in depths:
        _check_examples(rollout, shape, depth, markers, context_tolerance)
        for cut in _for_batch(rollout):
            _check_examples(cut, shape, depth, markers, context_tolerance)
        made += _check_generate(rollout, shape, depth, markers)
        _check_head(rollout, shape, depth, markers)
        _check_teacher(rollout, shape, depth, markers)
    expect(made > 0, f"generate refuses {len(depths)} of the {len(depths)} depths {depths}, wanted it to make at least 1")
    _check_stop(rollout, shape, markers)


def _for_batch(rollout: Any) -> list[Any]:
    """The rollouts that ``for_batch`` gives; none if the rollout cuts every batch itself."""
    if not hasattr(rollout, "for_batch"):
        return []
    found = []
    for seed in range(4):
        with global_rng_untouched("for_batch"):
            cut, size = rollout.for_batch(2, seeded(seed))
        expect(isinstance(size, int) and size >= 1, f"for_batch: a batch of {size}, wanted at least 1")
        found.append(cut)
    return found


def _volume(shape: tuple[int, int, int], first: int, end: int, depth: float = float("inf")) -> Tensor:
    """(c, end - first, h, w): slice i holds i; start markers before 0, end markers from ``depth`` on."""
    values = [_START if i < 0 else _END if i >= depth else float(i) for i in range(first, end)]
    return torch.tensor(values)[None, :, None, None].expand(shape[0], -1, *shape[1:]).clone()


def _check_examples(rollout: Any, shape: tuple[int, int, int], depth: int, markers: Markers, tolerance: float) -> None:
    latent = _volume(shape, 0, depth)
    given, what = latent.clone(), f"example of a volume of {depth} slices"
    blocks: set[int] = set()
    for seed in range(24):
        with global_rng_untouched(what):
            example = rollout.example(latent, markers, seeded(seed))
        expect(isinstance(example, BlockExample), f"{what}: found {type(example).__name__}, wanted a BlockExample")
        block = example.target.shape[1]
        blocks.add(block)
        shaped(f"{what}: target", example.target, shape[0], block, *shape[1:])
        equal(f"{what}: depth", example.depth, depth)
        expect(0 <= example.start <= depth + block, f"{what}: start {example.start}, wanted 0 .. {depth + block}")
        wanted = _volume(shape, example.start, example.start + block, depth)
        close(f"{what}: target against slices from {example.start}", example.target, wanted, 0.0)
        if example.context is not None:
            length = example.context.shape[1]
            wanted = _volume(shape, example.start - length, example.start, depth)
            close(f"{what}: context against the {length} slices before {example.start}", example.context, wanted, tolerance)
        again = rollout.example(latent, markers, seeded(seed))
        equal(f"{what}: start with one seed, twice", again.start, example.start)
        _check_reading(rollout, what, latent, markers, seed, example)
        close(f"{what}: target with one seed, twice", again.target, example.target, 0.0)
    close(f"{what} must not change the volume", latent, given, 0.0)
    equal(f"{what}: different block lengths, which a batch cannot hold", len(blocks), 1)
    config: Any = getattr(rollout, "config", None)
    if hasattr(config, "block_length"):
        equal(f"{what}: block length and config.block_length({depth})", blocks.pop(), config.block_length(depth))


def _check_reading(rollout: Any, what: str, latent: Tensor, markers: Markers, seed: int, example: BlockExample) -> None:
    """A rollout that reads for itself makes the same example of the slices that it asks for, once."""
    if not hasattr(rollout, "example_from"):
        return
    depth = latent.shape[1]
    asked: list[tuple[int, int]] = []

    def read(first: int, end: int) -> Tensor:
        asked.append((first, end))
        expect(0 <= first <= end <= depth, f"{what}: example_from reads slices {first} .. {end}, wanted 0 .. {depth}")
        return latent[:, first:end].clone()

    found = rollout.example_from(read, depth, markers, seeded(seed))
    equal(f"{what}: reads of example_from", len(asked), 1)
    equal(f"{what}: start of example_from and example", (found.start, found.depth), (example.start, example.depth))
    close(f"{what}: target of example_from and example", found.target, example.target, 0.0)
    equal(f"{what}: example_from and example have no context", found.context is None, example.context is None)
    if found.context is not None and example.context is not None:
        shaped(f"{what}: context of example_from", found.context, *example.context.shape)


class _Copy:
    """A denoiser that knows the answer (slice i holds i; end markers from ``ends``) and checks what it is asked."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        depth: int | None,
        head: Tensor | None,
        *,
        ends: float = float("inf"),
        noise: bool = False,
    ) -> None:
        self.wanted_shape, self.depth, self.head, self.ends, self.noise, self.calls = shape, depth, head, ends, noise, 0

    def __call__(
        self,
        *,
        shape: tuple[int, int, int, int],
        context: Tensor | None,
        start: int,
        depth: int | None,
        generator: torch.Generator,
        known: Tensor | None = None,
    ) -> Tensor:
        self.calls += 1
        expect(self.calls < 1000, f"generate: {self.calls} blocks and no end, wanted a limit")
        equal("denoise: (c, h, w)", (shape[0], *shape[2:]), self.wanted_shape)
        equal("denoise: depth", depth, self.depth)
        if context is not None and not self.noise:
            length = context.shape[1]
            wanted = _volume(self.wanted_shape, start - length, start, self.ends)
            if self.head is not None:
                end = min(start, self.head.shape[1])
                first = max(start - length, 0)
                if first < end:
                    wanted[:, first - (start - length) : end - (start - length)] = self.head[:, first:end]
            close(f"denoise: context against the {length} slices before {start}", context, wanted, 1e-3)
        if known is not None and not self.noise:
            wanted = _volume(self.wanted_shape, start, start + known.shape[1], self.ends)
            if self.head is not None:
                inside = max(min(self.head.shape[1] - start, known.shape[1]), 0)
                wanted[:, :inside] = self.head[:, start : start + inside]
            close(f"denoise: known against the {known.shape[1]} slices from {start}", known, wanted, 1e-3)
        block = _volume(self.wanted_shape, start, start + shape[1], self.ends)
        if self.noise:
            block = torch.randn(block.shape, generator=generator)
        return block


def _check_generate(rollout: Any, shape: tuple[int, int, int], depth: int, markers: Markers) -> bool:
    """Whether the rollout can make this depth."""
    what = f"generate {depth} slices"
    done: list[tuple[int, int]] = []
    result = _generate(
        rollout, _Copy(shape, depth, None), shape, depth, markers, None, progress=lambda *pair: done.append(pair)
    )
    if result is None:
        return False
    shaped(f"{what}: latent", result.latent, shape[0], depth, *shape[1:])
    equal(f"{what}: stopped_by", result.stopped_by, "length")
    close(f"{what}: slices in order", result.latent, _volume(shape, 0, depth), 1e-3)
    _check_boundaries(what, result, 1, depth)
    for pair in done:
        expect(0 <= pair[0] <= pair[1], f"{what}: progress {pair[0]} of {pair[1]}")
    noisy = [_generate(rollout, _Copy(shape, depth, None, noise=True), shape, depth, markers, None, seed) for seed in (1, 1, 2)]
    if noisy[0] is not None and noisy[1] is not None and noisy[2] is not None:
        close(f"{what} with one seed, twice", noisy[1].latent, noisy[0].latent, 0.0)
        differs(f"{what} with two seeds", noisy[2].latent, noisy[0].latent)
    return True


def _check_head(rollout: Any, shape: tuple[int, int, int], depth: int, markers: Markers) -> None:
    for given in (1, depth // 2):
        head = torch.rand(shape[0], given, *shape[1:], generator=seeded(given)) + 0.25
        kept, what = head.clone(), f"generate {depth} slices after a head of {given}"
        result = _generate(rollout, _Copy(shape, depth, head), shape, depth, markers, head)
        if result is None:
            return
        shaped(f"{what}: latent", result.latent, shape[0], depth, *shape[1:])
        close(f"{what}: the head", result.latent[:, :given], kept, 0.0)
        close(f"{what}: the slices after the head", result.latent[:, given:], _volume(shape, given, depth), 1e-3)
        close(f"{what} must not change the head", head, kept, 0.0)
        expect(given in result.boundaries, f"{what}: boundaries {result.boundaries}, wanted {given} among them")
        _check_boundaries(what, result, given, depth)


def _check_teacher(rollout: Any, shape: tuple[int, int, int], depth: int, markers: Markers) -> None:
    """Block-wise, if the rollout has it: the context is real, the slices are the model's, the length is the real one."""
    if "teacher" not in inspect.signature(rollout.generate).parameters:
        return
    real, what = _volume(shape, 0, depth) + 0.5, f"generate block-wise from {depth} real slices"
    given = real.clone()
    kept = _Copy(shape, depth, None, noise=True)
    contexts: list[tuple[int, Tensor | None]] = []

    def denoise(**asked: Any) -> Tensor:
        contexts.append((asked["start"], asked["context"]))
        return kept(**asked)

    result = rollout.generate(
        denoise, shape=shape, depth=None, markers=markers, head=None, generator=seeded(0), progress=None, teacher=real
    )
    shaped(f"{what}: latent", result.latent, shape[0], depth, *shape[1:])
    for start, context in contexts:
        if context is not None:
            below = _volume(shape, start - context.shape[1], start)
            wanted = torch.where(below == _START, below, below + 0.5)
            close(f"{what}: context against the real slices before {start}", context, wanted, 1e-3)
    differs(f"{what}: the result and the real slices", result.latent, real)
    close(f"{what} must not change them", real, given, 0.0)


def _check_boundaries(what: str, result: RolloutResult, first: int, depth: int) -> None:
    boundaries = result.boundaries
    expect(list(boundaries) == sorted(set(boundaries)), f"{what}: boundaries {boundaries} do not rise")
    outside = [boundary for boundary in boundaries if not first <= boundary < depth]
    expect(not outside, f"{what}: boundaries {outside} are outside {first} .. {depth - 1}")


def _check_stop(rollout: Any, shape: tuple[int, int, int], markers: Markers) -> None:
    """Without a length: a rollout either has a stop rule that works and a limit, or says that it has none."""
    ends = 19
    result = _generate(rollout, _Copy(shape, None, None, ends=ends), shape, None, markers, None)
    if result is None:
        return
    if result.stopped_by == "end-marker":
        shaped(f"generate until the end marker at {ends}: latent", result.latent, shape[0], ends, *shape[1:])
        close("generate until the end marker: slices", result.latent, _volume(shape, 0, ends), 1e-3)
    endless = _generate(rollout, _Copy(shape, None, None), shape, None, markers, None)
    if endless is not None:
        equal("generate without an end marker: stopped_by", endless.stopped_by, "limit")


def _generate(
    rollout: Any,
    denoise: _Copy,
    shape: tuple[int, int, int],
    depth: int | None,
    markers: Markers,
    head: Tensor | None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> RolloutResult | None:
    """The result; None if the rollout says, as an error for users, that it cannot do this."""
    try:
        with global_rng_untouched("generate"):
            result = rollout.generate(
                denoise, shape=shape, depth=depth, markers=markers, head=head, generator=seeded(seed), progress=progress
            )
    except CtgenError as error:
        expect(bool(error.message), "generate refuses without saying why")
        return None
    expect(isinstance(result, RolloutResult), f"generate: found {type(result).__name__}, wanted a RolloutResult")
    return result  # type: ignore[no-any-return]
