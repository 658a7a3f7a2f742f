from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ctgen.errors import ConfigError
from ctgen.interfaces import LatentSpec, Objective, Posterior, Sizes, TextSpec
from ctgen.train.a_vae import AVae, PatchAdversary
from ctgen.train.a_vae_config import AVaeConfig
from ctgen.train.batches import generator_for
from ctgen.train.log import read_metrics
from ctgen.train.loop import fit

from .toys import settings


class Autoencoder(nn.Module):
    """2 x 2 pixels to 3 numbers by one convolution, and back."""

    hu_range = (-1000.0, 1000.0)
    latent = LatentSpec(3, (1, 2, 2))

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(1, 6, 2, 2), nn.ConvTranspose2d(3, 1, 2, 2)
        draw = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.2)
            self.down.bias[3:] = -3.0  # type: ignore[index]

    def encode(self, volume: Tensor) -> Posterior:
        moments = self.down(volume.transpose(1, 2).flatten(0, 1) / 1000).unflatten(0, (len(volume), -1)).transpose(1, 2)
        mean, logvar = moments.chunk(2, dim=1)
        return Posterior(mean, logvar)

    def forward(self, volume: Tensor, generator: torch.Generator) -> tuple[Tensor, Posterior]:
        posterior = self.encode(volume)
        noise = torch.randn(posterior.mean.shape, generator=generator)
        latent = posterior.mean + noise * (0.5 * posterior.logvar).exp()
        slices = self.up(latent.transpose(1, 2).flatten(0, 1))
        return slices.unflatten(0, (len(volume), -1)).transpose(1, 2) * 1000, posterior


class Source:
    """Smooth fields; slice k of case i has its own level, case 1 lies partly outside the window."""

    def __init__(self, count: int = 3, depth: int = 5, size: tuple[int, int] = (40, 48)) -> None:
        self.ids = [f"case-{number}" for number in range(count)]
        rows, columns = (torch.linspace(0, 3, length) for length in size)
        field = torch.sin(rows)[:, None] * torch.cos(columns)[None] * 600
        self.volumes = [
            torch.stack([field + 100 * slice_ for slice_ in range(depth)]) * (1 + 2 * (case == 1)) for case in range(count)
        ]

    def record(self, index: int) -> dict[str, object]:
        return {"id": self.ids[index], "shape": list(self.volumes[index].shape)}

    def volume(self, index: int, slices: slice | None = None) -> Tensor:
        return self.volumes[index][slices or slice(None)]


def build(**fields: object) -> AVae:
    torch.manual_seed(0)
    config = AVaeConfig(**{"crop": 16, **fields})
    return AVae(config, components={"autoencoder": Autoencoder()}, schedule=None, rollout=None)


def test_it_is_an_objective_for_autoencoders_on_volumes() -> None:
    objective = build()
    assert isinstance(objective, Objective)
    assert (objective.trains, objective.reads, objective.adversary) == ("autoencoder", "volumes", None)
    assert (AVaeConfig.trains, AVaeConfig.reads, AVaeConfig.sections) == ("autoencoder", "volumes", {"autoencoder"})


@pytest.mark.parametrize(("crop", "size"), [(16, (40, 48)), (32, (20, 48)), (24, (24, 24))])
def test_crops_have_the_size_asked_for_and_lie_in_the_window(crop: int, size: tuple[int, int]) -> None:
    """Also from slices smaller than the crop, which are magnified."""
    image = build(crop=crop).batch(Source(size=size), 12, generator_for(0, "batch"))["image"]
    assert image.shape == (12, 1, crop, crop) and image.dtype == torch.float32
    assert image.min() >= -1000 and image.max() <= 1000
    assert len({round(float(one.mean()), 3) for one in image}) > 8


def test_a_batch_depends_on_its_generator_alone() -> None:
    objective, source = build(), Source()
    torch.manual_seed(1)
    first = objective.batch(source, 4, torch.Generator().manual_seed(5))["image"]
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(first, objective.batch(source, 4, torch.Generator().manual_seed(5))["image"])
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(first, objective.batch(source, 4, torch.Generator().manual_seed(6))["image"])


def test_without_augmentation_a_crop_is_a_turned_piece_of_a_slice() -> None:
    source = Source(count=1, depth=1)
    image = build(zoom=(1.0, 1.0), intensity=0, noise_hu=0).batch(source, 6, generator_for(0, "batch"))["image"]
    pieces = source.volumes[0][0].unfold(0, 16, 1).unfold(1, 16, 1).flatten(0, 1)
    for crop in image[:, 0]:
        turned = [torch.rot90(side, turns) for side in (crop, crop.flip(1)) for turns in range(4)]
        assert any((pieces - one).abs().amax((1, 2)).min() < 1e-2 for one in turned)


def test_reading_touches_one_slice_per_crop() -> None:
    class Counting(Source):
        read = 0

        def volume(self, index: int, slices: slice | None = None) -> Tensor:
            found = super().volume(index, slices)
            self.read += len(found)
            return found

    source = Counting()
    build().batch(source, 5, generator_for(0, "batch"))
    assert source.read == 5


def test_terms_are_what_their_names_say() -> None:
    objective = build(l1=2.0, l2=3.0, kl=0.5, ssim=0.25)
    batch = objective.batch(Source(), 4, generator_for(0, "batch"))
    found = objective.loss(batch, 1, torch.Generator().manual_seed(3))
    output, posterior = objective.model(batch["image"].unsqueeze(2), torch.Generator().manual_seed(3))
    error = (output.squeeze(2) - batch["image"]) / 2000
    assert posterior.logvar is not None
    divergence = torch.distributions.kl_divergence(
        torch.distributions.Normal(posterior.mean, (0.5 * posterior.logvar).exp()), torch.distributions.Normal(0.0, 1.0)
    )
    wanted = {"l1": error.abs().mean(), "l2": error.square().mean(), "kl": divergence.sum() / batch["image"].numel()}
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value.detach())
    torch.testing.assert_close(found["psnr"], -10 * torch.log10(found["l2"]))
    total = 2 * found["l1"] + 3 * found["l2"] + 0.5 * found["kl"] + 0.25 * (1 - found["ssim"])
    torch.testing.assert_close(found["loss"].detach(), total)
    assert found["loss"].requires_grad and not any(value.requires_grad for name, value in found.items() if name != "loss")
    assert -1 <= found["ssim"] <= 1


def test_terms_of_weight_zero_are_left_out() -> None:
    objective = build(kl=0, ssim=0)
    found = objective.loss(objective.batch(Source(), 2, generator_for(0, "batch")), 1, generator_for(0, "loss"))
    assert set(found) == {"loss", "l1", "l2", "psnr"}


def test_the_loss_falls(tmp_path: Path) -> None:
    fit(build(), Source(), settings(steps=60, batch=8), tmp_path, spec={})
    values = [row["loss"] for row in read_metrics(tmp_path)]
    assert sum(values[-10:]) < 0.35 * sum(values[:10])


def test_an_adversary_is_silent_until_its_first_step() -> None:
    objective = build(adversarial=0.5, adversary_from=10)
    batch = objective.batch(Source(), 2, generator_for(0, "batch"))
    assert "adversarial" not in objective.loss(batch, 9, generator_for(0, "loss"))
    early = objective.adversary_loss(batch, 9)["loss"]
    assert early.item() == 0 and early.requires_grad
    assert "adversarial" in objective.loss(batch, 10, generator_for(0, "loss"))
    assert objective.adversary_loss(batch, 10)["loss"].item() > 0


def test_the_adversarys_term_reaches_the_model_and_its_own_loss_does_not() -> None:
    objective = build(adversarial=1.0, adversary_from=0, l1=0, l2=0, kl=0, ssim=0)
    batch = objective.batch(Source(), 2, generator_for(0, "batch"))
    objective.loss(batch, 0, generator_for(0, "loss"))["loss"].backward()
    assert all(
        value.grad is not None and value.grad.any() for value in (objective.model.down.weight, objective.model.up.weight)
    )
    objective.model.zero_grad()
    assert objective.adversary is not None
    objective.adversary.zero_grad()
    objective.adversary_loss(batch, 0)["loss"].backward()
    assert all(value.grad is not None for value in objective.adversary.parameters())
    assert all(value.grad is None for value in objective.model.parameters())


def test_training_against_an_adversary_moves_both(tmp_path: Path) -> None:
    objective = build(adversarial=0.1, adversary_from=4)
    assert objective.adversary is not None
    before = {name: value.clone() for name, value in objective.adversary.named_parameters()}
    fit(objective, Source(), settings(steps=8, batch=2, adversary_lr=1e-3), tmp_path, spec={})
    assert all(not torch.equal(value, before[name]) for name, value in objective.adversary.named_parameters())
    rows = read_metrics(tmp_path)
    assert [row["step"] for row in rows if "adversarial" in row] == [row["step"] for row in rows if row["adversary_loss"] > 0]
    assert "adversarial" in rows[-1] and "adversarial" not in rows[0]
    assert all(math.isfinite(row["loss"]) for row in rows)


def test_the_adversary_learns_to_tell_apart() -> None:
    torch.manual_seed(0)
    judge, draw = PatchAdversary(width=8), torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(judge.parameters(), 1e-3)
    assert judge(torch.zeros(2, 1, 32, 48)).shape == (2, 1, 4, 6)
    for _ in range(20):
        real, fake = torch.rand(4, 1, 32, 32, generator=draw), torch.full((4, 1, 32, 32), 0.5)
        optimiser.zero_grad()
        (torch.relu(1 - judge(real)).mean() + torch.relu(1 + judge(fake)).mean()).backward()
        optimiser.step()
    assert judge(real).mean() > judge(fake).mean() + 0.5


def test_finish_makes_latents_zero_mean_and_unit_variance() -> None:
    objective, source = build(), Source()
    metadata = objective.finish(source, generator_for(0, "finish"))
    scale, shift = float(metadata["scale"]), float(metadata["shift"])
    with torch.no_grad():
        latents = torch.cat([objective.model.encode(one[None, None]).mean.flatten() for one in source.volumes])
    finalised = (latents - shift) * scale
    assert finalised.mean().item() == pytest.approx(0, abs=1e-4)
    assert finalised.std().item() == pytest.approx(1, abs=1e-3)
    assert metadata == objective.finish(source, generator_for(0, "finish"))


def test_a_crop_that_the_stride_does_not_divide_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"objective\.crop: 17 pixels is not a multiple of the latent stride \(2, 2\)"):
        build(crop=17)


def test_the_config_finds_misfits_before_any_work() -> None:
    sizes = Sizes((8, 64, 64), LatentSpec(16, (1, 8, 8)), TextSpec(8, 8, 8), (8, 8, 8), 4)
    assert list(AVaeConfig(crop=96).check(sizes)) == []
    found = dict(AVaeConfig(crop=100, zoom=(0.0, 2.0), intensity=1.0).check(sizes))
    assert found.keys() == {"crop", "zoom", "intensity"}
    assert found["crop"] == "100 pixels is not a multiple of the autoencoder's in-plane stride (8, 8)"
