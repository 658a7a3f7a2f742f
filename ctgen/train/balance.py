"""How often each case is drawn, so that rare findings are seen more often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ctgen.errors import DataError


def case_weights(labels: Sequence[Mapping[str, int] | None], *, cap: float) -> Tensor:
    """(N,) float64, mean 1: case i is drawn ``weights[i]`` times as often as if all were drawn alike.

    Each label that is positive in n_g > 0 cases is a group g, and so are the cases in which all are negative. Drawing a group,
    each alike, and one of its cases, each alike, gives w_i proportional to the sum of 1 / n_g over the groups that hold case i:
    every finding is then in at least 1 / G of the draws. No weight exceeds ``cap``, so that a single rare case is not learnt by
    heart: what is cut off goes to the others. Cases whose labels are unknown weigh 1. DataError if no case has labels.
    """
    groups = [None if found is None else [name for name, value in found.items() if value] or [""] for found in labels]
    counts = Counter(name for members in groups if members is not None for name in members)
    if not counts:
        raise DataError(
            "objective.balance: labels, but no training case has labels",
            hint="add label columns to the table of reports, or set objective.balance=none",
        )
    known = torch.tensor([members is not None for members in groups])
    shares = [sum(1 / counts[name] for name in members) for members in groups if members is not None]
    weights = torch.ones(len(groups), dtype=torch.float64)
    weights[known] = _capped(torch.tensor(shares, dtype=torch.float64), cap)
    return weights


def _capped(shares: Tensor, cap: float) -> Tensor:
    """``shares`` scaled to mean 1 with none above ``cap`` (>= 1)."""
    at_cap = torch.zeros(len(shares), dtype=torch.bool)
    while True:
        free = len(shares) - cap * int(at_cap.sum())
        weights = torch.where(at_cap, cap, shares * free / shares[~at_cap].sum().clamp_min(1e-300))
        beyond = (weights > cap) & ~at_cap
        if not beyond.any():
            return weights
        at_cap |= beyond
