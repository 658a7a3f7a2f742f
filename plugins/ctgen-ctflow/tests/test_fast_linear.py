from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from ctflow_fixtures import draw
from ctgen_ctflow import fast_linear
from ctgen_ctflow.fast_linear import linear
from torch import nn

onednn = pytest.mark.skipif(not fast_linear._ONEDNN, reason="this torch has no oneDNN")


@onednn
@torch.no_grad()
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-6), (torch.bfloat16, 0.02)])
@pytest.mark.parametrize("gelu", [False, True])
def test_the_same_numbers_as_the_plain_layer(dtype: torch.dtype, error: float, gelu: bool) -> None:
    if dtype not in fast_linear._TYPES:
        pytest.skip("no bfloat16 products on this CPU")
    layer = nn.Linear(48, 96).to(dtype)
    x = draw(2, 7, 3, 48).to(dtype).transpose(1, 2)
    exact = F.linear(x.double(), layer.weight.double(), layer.bias.double())
    exact = F.gelu(exact, approximate="tanh") if gelu else exact
    assert fast_linear._fast(layer, x)
    found = linear(layer, x, gelu=gelu)
    assert found.shape == exact.shape and found.dtype == dtype
    assert (found - exact).abs().max() <= error * exact.abs().max()


@onednn
@torch.no_grad()
def test_a_row_does_not_depend_on_its_batch() -> None:
    layer, x = nn.Linear(384, 1536), draw(4, 300, 384)
    assert torch.equal(linear(layer, x, gelu=True)[1:2], linear(layer, x[1:2], gelu=True))


def test_gradients_autocast_and_subclasses_take_the_plain_layer() -> None:
    class Other(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return super().forward(input) + 1

    layer, x = nn.Linear(8, 8), draw(2, 8)
    assert not fast_linear._fast(layer, x), "gradients are on"
    assert linear(layer, x, gelu=True).requires_grad
    with torch.no_grad():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert linear(layer, x).dtype == torch.bfloat16
        other = Other(8, 8)
        assert torch.equal(linear(other, x), other(x))
        assert not fast_linear._fast(layer, x.double()) and not fast_linear._fast(layer.to("meta"), x.to("meta"))
