"""Assertions that name what was found and what was wanted; they hold under ``python -O`` too."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ctgen.interfaces import WeightsInfo


def expect(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)


def equal(what: str, found: Any, wanted: Any) -> None:
    expect(bool(found == wanted), f"{what}: found {found!r}, wanted {wanted!r}")


def shaped(what: str, tensor: Tensor, *wanted: int) -> None:
    """A finite tensor of exactly this shape."""
    expect(isinstance(tensor, Tensor), f"{what}: found {type(tensor).__name__}, wanted a Tensor")
    equal(f"{what}: shape", tuple(tensor.shape), wanted)
    if tensor.is_floating_point():
        bad = int((~torch.isfinite(tensor)).sum())
        expect(bad == 0, f"{what}: {bad} of {tensor.numel()} values are not finite, wanted 0")


def close(what: str, found: Tensor, wanted: Tensor, tolerance: float) -> None:
    """Equal to within ``tolerance`` at every element."""
    equal(f"{what}: shape", tuple(found.shape), tuple(wanted.shape))
    if found.numel() == 0:
        return
    apart = (found.double() - wanted.double()).abs().flatten()
    worst = int(apart.argmax())
    expect(
        bool(apart[worst] <= tolerance),
        f"{what}: {found.flatten()[worst].item():.8g} and {wanted.flatten()[worst].item():.8g} "
        f"differ by {apart[worst].item():.3g}, tolerance {tolerance:g}",
    )


def differs(what: str, first: Tensor, second: Tensor) -> None:
    if first.shape == second.shape:
        apart = (first.double() - second.double()).abs()
        largest = float(apart.max()) if apart.numel() else 0.0
        expect(largest > 0.0, f"{what}: the largest difference is {largest:g}, wanted more than 0")


def weights_info(component: Any) -> None:
    info = getattr(component, "weights", None)
    expect(isinstance(info, WeightsInfo), f"weights: found {type(info).__name__}, wanted a ctgen.interfaces.WeightsInfo")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@contextmanager
def global_rng_untouched(what: str) -> Iterator[None]:
    """The body may not draw from torch's, NumPy's or Python's global generator: results would depend on who else drew."""
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), np.random.get_state()[2], random.getstate()  # type: ignore[index]  # noqa: NPY002
    yield
    after = torch.get_rng_state(), np.random.get_state()[1], np.random.get_state()[2], random.getstate()  # type: ignore[index]  # noqa: NPY002
    for name, same in (
        ("torch", torch.equal(before[0], after[0])),
        ("NumPy", bool((before[1] == after[1]).all()) and before[2] == after[2]),
        ("Python", before[3] == after[3]),
    ):
        expect(same, f"{what}: drew from {name}'s global generator; draw from the generator that is passed")
