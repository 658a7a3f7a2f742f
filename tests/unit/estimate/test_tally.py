"""Counting operations and live bytes, against sums made by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ctgen.estimate.tally import Tally

MIB = 2**20


def test_operations_of_products_and_attention():
    with FakeTensorMode(), torch.no_grad(), Tally() as tally:
        nn.Linear(64, 32)(torch.zeros(10, 64))
    assert tally.flops == 2 * 10 * 64 * 32
    with FakeTensorMode(), torch.no_grad(), Tally() as tally:
        q = torch.zeros(2, 4, 100, 16)
        nn.functional.scaled_dot_product_attention(q, q, q)
    assert tally.flops == 2 * (2 * 2 * 4 * 100 * 100 * 16)
    with FakeTensorMode(), Tally() as tally:
        nn.Conv3d(3, 5, 3, padding=1)(torch.zeros(1, 3, 4, 6, 8)).sum().backward()
    # forward, and the gradient of the weights; the input wants none
    assert tally.flops == 2 * (2 * 5 * 3 * 27 * 4 * 6 * 8)


def test_backward_of_attention_is_counted_on_the_cpu():
    with FakeTensorMode(), Tally() as tally:
        q = torch.zeros(1, 2, 64, 16, requires_grad=True)
        nn.functional.scaled_dot_product_attention(q, q, q).sum().backward()
    forward = 2 * (2 * 2 * 64 * 64 * 16)
    assert tally.flops == forward + 5 * forward // 2, "two products forward; five in the fused backward"


@pytest.mark.parametrize("data", [True, False])
def test_live_bytes_follow_what_is_made_and_dropped(data):
    mode = FakeTensorMode()
    with mode:
        before = torch.zeros(MIB)
    if data:
        before = torch.zeros(MIB)
    with Tally() as tally:
        first = before + 1
        assert tally.live == 4 * MIB, "4 MiB made inside; what was there before does not count"
        second = first.view(2, -1).t()
        first.mul_(2)
        before.add_(1)
        assert tally.live == tally.peak == 4 * MIB, "views and changes in place take nothing"
        third = second.contiguous()
        assert tally.live == 8 * MIB
        del first, second
        assert (tally.live, tally.peak) == (4 * MIB, 8 * MIB)
        del third
        assert tally.live == 0


def test_what_autograd_keeps_is_seen():
    with FakeTensorMode():
        layers = nn.Sequential(*(nn.Sequential(nn.Linear(256, 256), nn.Tanh()) for _ in range(4)))
        x = torch.zeros(1024, 256)
    with Tally() as tally:
        out = layers(x)
    # each Tanh keeps its result, each Linear the one before: four results are alive, the products are not
    assert tally.live == 4 * MIB
    with Tally() as tally, torch.no_grad():
        out = layers(x)
    assert tally.live == MIB and tally.peak == 3 * MIB, "input, product and result of one layer"
    assert out.shape == (1024, 256)
