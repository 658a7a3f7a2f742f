"""Linear layers on a CPU: oneDNN's product with bias and GELU in one pass, where nothing is differentiated.

Torch's own float32 path (MKL, the bias copied in first, GELU over the whole hidden layer afterwards) takes a tenth to a fifth
longer: benchmarks/stdit_speed.py. The operator is the one that torch.compile puts in; without it everything still works.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

_ONEDNN = bool(torch.backends.mkldnn.is_available()) and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # type: ignore[no-untyped-call]
_TYPES = {torch.float32} | ({torch.bfloat16} if _ONEDNN and torch.ops.mkldnn._is_mkldnn_bf16_supported() else set())


def linear(layer: nn.Linear, x: Tensor, *, gelu: bool = False) -> Tensor:
    """``layer(x)``, and its GELU (tanh form) if asked for; to rounding the same whichever way it is computed."""
    if not _fast(layer, x):
        y: Tensor = layer(x)
        return F.gelu(y, approximate="tanh") if gelu else y
    post, form = ("gelu", "tanh") if gelu else ("none", "")
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x.contiguous(), layer.weight, layer.bias, post, [], form)
    return found


def _fast(layer: nn.Linear, x: Tensor) -> bool:
    """Compilers, counters of operations and sub-classes of Linear see the plain layer."""
    if torch.compiler.is_compiling() or torch.is_grad_enabled() or x.device.type != "cpu":
        return False
    return (
        _ONEDNN
        and type(layer) is nn.Linear
        and x.dtype == layer.weight.dtype
        and x.dtype in _TYPES
        and not torch.is_autocast_enabled("cpu")
        and not is_in_torch_dispatch_mode()
    )
