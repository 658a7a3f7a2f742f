"""The network does what ctgen asks of a backbone, at any size that its strides divide, and learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from ctgen import Host
from ctgen.errors import CheckpointError, ConfigError
from ctgen.interfaces import Condition, LatentSpec, TextFeatures, TextSpec
from ctgen.testing import MemorySource, check_backbone

LATENT, TEXT = LatentSpec(4, (1, 8, 8)), TextSpec(16, 12, 16)
SMALL: dict[str, Any] = {"widths": (8, 16, 16), "strides": ((4, 1, 1), (1, 2, 2)), "heads": 2, "middle": 1}
HOST = Host.discover()


def network(**fields: Any) -> Any:
    torch.manual_seed(1)
    config = HOST.configure("backbone", "baseline:unet3d", **{**SMALL, **fields})
    return HOST.build("backbone", "baseline:unet3d", config, latent=LATENT, text=TEXT)


def condition(batch: int) -> Condition:
    random = torch.Generator().manual_seed(2)
    tokens, pooled = torch.randn(batch, 5, 16, generator=random), torch.randn(batch, 16, generator=random)
    return Condition(TextFeatures(tokens, torch.ones(batch, 5, dtype=torch.bool), pooled))


@pytest.mark.parametrize("text", ["pooled", "tokens"])
@pytest.mark.parametrize("skip", ["none", "wiener"])
def test_conforms(text: str, skip: str) -> None:
    check_backbone(network(text=text, skip=skip), latent=LATENT, text=TEXT, cells=(8, 4, 4))


@pytest.mark.parametrize("cells", [(4, 2, 2), (8, 4, 6), (20, 6, 2)])
def test_any_size_that_the_strides_divide(cells: tuple[int, int, int]) -> None:
    out = network()(torch.randn(1, 4, *cells), torch.tensor([0.5]), condition(1))
    assert out.shape == (1, 4, *cells)


def test_other_sizes_are_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"\(4, 2, 2\).*\(6, 4, 4\)[\s\S]*4 or 8"):
        network()(torch.randn(1, 4, 6, 4, 4), torch.tensor([0.5]), condition(1))


def test_begins_with_the_linear_estimate() -> None:
    """Output zero, or the best linear guess: exact where the latent is known to be nearly zero."""
    noisy, time = torch.randn(2, 4, 4, 4, 4), torch.tensor([1.0, 0.5])
    assert network()(noisy, time, condition(2)).count_nonzero() == 0
    guess = network(skip="wiener", latent_std=(1e-4,))(noisy, time, condition(2))
    # x = 0: z = t eps, so the velocity eps is z / t
    torch.testing.assert_close(guess, noisy / time.view(-1, 1, 1, 1, 1), rtol=1e-4, atol=1e-4)


def test_recomputing_changes_nothing() -> None:
    noisy, time = torch.randn(1, 4, 4, 4, 4), torch.tensor([0.5])
    plain, saving = network(), network(gradient_checkpointing=True)
    for net in (plain, saving):
        torch.nn.init.ones_(net.exit.weight)
        net(noisy, time, condition(1)).square().mean().backward()
    for one, other in zip(plain.parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_a_few_steps_lower_the_loss() -> None:
    net = network(skip="wiener")
    parts = {
        "autoencoder": HOST.create("autoencoder", "builtin:tiny-ae", channels=4),
        "text_encoder": HOST.create("text_encoder", "builtin:hash-text", width=16, max_tokens=12),
        "backbone": net,
    }
    schedule, rollout = HOST.create("schedule", "builtin:linear-flow"), HOST.create("rollout", "builtin:whole-volume")
    objective = HOST.create("objective", "latent-flow", components=parts, schedule=schedule, rollout=rollout)
    source = MemorySource(parts["autoencoder"], parts["text_encoder"])

    def loss(seed: int) -> torch.Tensor:
        random = torch.Generator().manual_seed(seed)
        found: torch.Tensor = objective.loss(objective.batch(source, 2, random), 0, random)["loss"]
        return found

    def average() -> float:
        with torch.no_grad():
            return sum(float(loss(1000 + seed)) for seed in range(8)) / 8

    before = average()
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for step in range(30):
        optimiser.zero_grad()
        loss(step).backward()
        optimiser.step()
    assert average() < 0.8 * before


def test_weights_return_and_misfits_are_named(tmp_path: Path) -> None:
    net = network()
    torch.nn.init.normal_(net.exit.weight)
    path = tmp_path / "unet3d.safetensors"
    save_file(net.state_dict(), str(path))
    loaded = network(weights=str(path))
    assert loaded.weights.label == "FILE"
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in loaded.state_dict().items())
    with pytest.raises(CheckpointError, match=r"unet3d: .* does not fit; .*file .*config"):
        network(weights=str(path), widths=(8, 16, 32))
    path.write_bytes(b"x" * 50)
    with pytest.raises(CheckpointError, match="not a readable"):
        network(weights=str(path))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"widths": (8, 16)}, "2 widths need 1 strides"),
        ({"heads": 3}, "heads 3 does not divide"),
        ({"widths": (8, 12, 16)}, "8"),
    ],
)
def test_configs_that_cannot_be(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        network(**fields)


def test_pooled_text_needs_a_pooled_vector() -> None:
    with pytest.raises(ConfigError, match="text: tokens"):
        HOST.create("backbone", "baseline:unet3d", latent=LATENT, text=TextSpec(16, 12), **SMALL)


@torch.no_grad()
@pytest.mark.parametrize("text", ["pooled", "tokens"])
def test_whitening_is_fitted_once_and_saved_with_the_weights(text: str, tmp_path: Path) -> None:
    """What hardly sets reports apart before does afterwards."""
    model = network(text=text, text_whitening=True)
    model.exit.weight.normal_(generator=torch.Generator().manual_seed(6))
    random = torch.Generator().manual_seed(5)
    vectors = torch.randn(200, 16, generator=random) * torch.tensor([1.0] * 15 + [0.1])
    mask = torch.ones(1, 1, dtype=torch.bool)
    # one place that shows what the network knows: the layer that the vector enters
    pair = torch.zeros(2, 16)
    pair[1, 15] = 0.1
    words = Condition(TextFeatures(pair[:, None], torch.ones(2, 1, dtype=torch.bool), pair))
    before = model._words(words).diff(dim=0).norm()
    model.fit_texts([TextFeatures(row[None, None], mask, row[None]) for row in vectors])
    assert model._words(words).diff(dim=0).norm() > 5 * before
    save_file(model.state_dict(), str(tmp_path / "own.safetensors"))
    again = network(text=text, text_whitening=True, weights=str(tmp_path / "own.safetensors"))
    assert again.whitening.fitted
    noisy, time = torch.randn(2, 4, 8, 4, 4, generator=random), torch.tensor([0.4, 0.8])
    assert torch.equal(again.eval()(noisy, time, condition(2)), model.eval()(noisy, time, condition(2)))
    with pytest.raises(CheckpointError, match="whitening"):
        network(text=text, weights=str(tmp_path / "own.safetensors"))
