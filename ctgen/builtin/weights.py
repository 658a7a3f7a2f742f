"""Loading a safetensors file into a built-in component."""

from __future__ import annotations

from safetensors.torch import load_file
from torch import nn

from ctgen.errors import CheckpointError
from ctgen.interfaces import WeightsInfo
from ctgen.weights import info, locate


def load_weights(module: nn.Module, ref: str, component: str) -> WeightsInfo:
    """Fill ``module`` from the file that ``ref`` names ("random" leaves it as built); a misfit is a CheckpointError."""
    path = locate(ref, component=component)
    if path is not None:
        state, own = load_file(str(path)), module.state_dict()
        wrong = sorted(
            f"{key}: file {tuple(state[key].shape) if key in state else 'absent'}, "
            f"config {tuple(own[key].shape) if key in own else 'absent'}"
            for key in state.keys() | own.keys()
            if key not in state or key not in own or state[key].shape != own[key].shape
        )
        if wrong:
            raise CheckpointError(
                f"{component}: {path} does not fit its config; {len(wrong)} differences, first: " + "; ".join(wrong[:4])
            )
        module.load_state_dict(state)
    return info(ref, path)
