"""A source and objectives so small that a step takes a millisecond."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ctgen.recipe.settings import TrainSettings


def settings(**fields: Any) -> TrainSettings:
    """Short runs with a line per step."""
    defaults: dict[str, Any] = {
        "steps": 12, "batch": 4, "lr": 1e-2, "warmup_steps": 2, "checkpoint_every": 4, "log_every": 1, "clip_norm": 100.0,
    }  # fmt: skip
    return TrainSettings(**{**defaults, **fields})


class Points:
    """Only the number of cases matters."""

    def __init__(self, count: int = 64) -> None:
        self.ids = [f"case-{number}" for number in range(count)]


class Regression:
    """Learn y = 2 x + noise from random x, through dropout and a tied, an unused and a frozen parameter."""

    trains = "backbone"
    reads = "latents"

    def __init__(self, *, adversary: bool = False, extra: bool = False, dropout: float = 0.2) -> None:
        state = torch.Generator().manual_seed(7)
        self.model: nn.Module = Network(dropout)
        for parameter in self.model.parameters():
            parameter.data = torch.randn(parameter.shape, generator=state) * 0.3
        self.adversary: nn.Module | None = nn.Linear(1, 1) if adversary else None
        if self.adversary is not None:
            nn.init.constant_(self.adversary.weight, 0.1)
            nn.init.zeros_(self.adversary.bias)
        if extra:
            self.extra: nn.Module = nn.Linear(1, 1)
            nn.init.zeros_(self.extra.weight)
            nn.init.zeros_(self.extra.bias)
        self.seen: list[Tensor] = []

    def batch(self, source: Points, size: int, generator: torch.Generator) -> Mapping[str, Any]:
        case = torch.randint(len(source.ids), (size,), generator=generator)
        x = torch.randn(size, 3, generator=generator)
        self.seen.append(x)
        return {"case": case, "x": x, "y": 2 * x.sum(1, keepdim=True)}

    def loss(self, batch: Mapping[str, Any], step: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        noise = 0.1 * torch.randn(batch["x"].shape, generator=generator)
        guess = self.model(batch["x"] + noise)
        if hasattr(self, "extra"):
            guess = guess + self.extra(torch.ones_like(guess))
        error = (guess - batch["y"]).square().mean()
        loss = error
        if self.adversary is not None:
            loss = error - 0.01 * self.adversary(guess).mean()
            self.fake = guess.detach()
        sometimes = error.detach() if step % 2 else torch.tensor(float("nan"))
        return {"loss": loss, "error": error, "odd_error": sometimes}

    def adversary_loss(self, batch: Mapping[str, Any], step: int) -> Mapping[str, Tensor]:
        assert self.adversary is not None
        return {"loss": self.adversary(self.fake).square().mean() + (self.adversary(batch["y"]) - 1).square().mean()}


class Network(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.first = nn.Linear(3, 8)
        self.drop = nn.Dropout(dropout)
        self.last = nn.Linear(8, 1)
        self.tied = self.first.weight
        self.unused = nn.Parameter(torch.zeros(2))
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.last(self.drop(torch.tanh(self.first(x))))
