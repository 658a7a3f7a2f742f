from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from ctgen import Host
from ctgen.errors import DataError
from ctgen.interfaces import (
    BlockExample,
    Coefficients,
    Condition,
    LatentSpec,
    Objective,
    Posterior,
    TextFeatures,
    TextSpec,
)
from ctgen.train.batches import generator_for
from ctgen.train.configs import LatentFlowConfig
from ctgen.train.latent_flow import LatentFlow, pad_text
from ctgen.train.log import read_metrics
from ctgen.train.loop import fit

from .toys import settings


class Autoencoder(nn.Module):
    """Two channels, one of them twice the first; stride (1, 4, 4)."""

    latent = LatentSpec(2, (1, 4, 4))
    marker_hu = (-1000.0, 600.0)
    encoded = 0

    def encode(self, volume: Tensor) -> Posterior:
        self.encoded += 1
        cells = torch.nn.functional.avg_pool3d(volume, (1, 4, 4)) / 1000
        return Posterior(torch.cat([cells, 2 * cells], dim=1))

    def finalise(self, posterior: Posterior, *, generator: torch.Generator | None) -> Tensor:
        if generator is None or posterior.logvar is None:
            return posterior.mean
        return posterior.mean + (0.5 * posterior.logvar).exp() * torch.randn(posterior.mean.shape, generator=generator)


class Rollout:
    """Blocks of 2 with the slice below as context; the start marker below the first one."""

    def example(self, latent, markers, generator):
        start = int(torch.randint(latent.shape[1] - 1, (), generator=generator))
        context = latent[:, start - 1 : start] if start else markers.start
        return BlockExample(latent[:, start : start + 2], context, start, latent.shape[1])


class Schedule:
    """alpha = cos, sigma = sin: derivatives that differ from those of a straight line."""

    def coefficients(self, time):
        angle = time.double() * torch.pi / 2
        half = torch.pi / 2
        return Coefficients(angle.cos(), angle.sin(), -half * angle.sin(), half * angle.cos())

    def training_times(self, batch, generator):
        return torch.rand(batch, generator=generator, dtype=torch.float64)


class Source:
    """Latents that state their case number, reports of different lengths."""

    def __init__(self, count: int = 5, std: float | None = None) -> None:
        self.ids = [str(number) for number in range(count)]
        self.std = std

    def latent_shape(self, index):
        return 2, 6, 3, 4

    def posterior(self, index, slices=slice(None)):
        mean = (torch.full((1, 2, 6, 3, 4), float(index)) + torch.arange(6.0)[:, None, None] / 10)[:, :, slices]
        return Posterior(mean, None if self.std is None else torch.full_like(mean, 2 * torch.tensor(self.std).log()))

    def text(self, index, *, impressions=False):
        if impressions:
            return TextFeatures(torch.full((1, 1, 3), -1.0), torch.ones(1, 1, dtype=torch.bool), torch.full((1, 3), -1.0))
        return TextFeatures(
            torch.full((1, index + 1, 3), index + 1.0), torch.ones(1, index + 1, dtype=torch.bool), torch.full((1, 3), 1.0)
        )

    def record(self, index):
        return {"id": str(index), "spacing_mm": [2.0, 1.0, 1.0 + index]}


class Recorder(nn.Module):
    """Returns ``answer(noisy, time, condition)`` and remembers what it was asked."""

    def __init__(self, predicts="velocity", answer=lambda noisy, time, condition: torch.zeros_like(noisy)) -> None:
        super().__init__()
        self.predicts = predicts
        self.answer = answer
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, noisy: Tensor, time: Tensor, condition: Condition) -> Tensor:
        self.noisy, self.time, self.condition = noisy, time, condition
        return self.answer(noisy, time, condition) + self.weight


def build(backbone: nn.Module | None = None, **fields) -> LatentFlow:
    components = {"autoencoder": Autoencoder(), "text_encoder": None, "backbone": backbone or Recorder()}
    return LatentFlow(LatentFlowConfig(**fields), components=components, schedule=Schedule(), rollout=Rollout())


def draw(objective: LatentFlow, size: int = 6, seed: int = 0, source: Source | None = None):
    return objective.batch(source or Source(), size, generator_for(seed, "batch"))


def test_it_is_an_objective_and_mirrors_its_config():
    objective = build()
    assert isinstance(objective, Objective)
    assert (objective.trains, objective.reads) == (LatentFlowConfig.trains, LatentFlowConfig.reads) == ("backbone", "latents")
    assert isinstance(Host.discover().configure("objective", "latent-flow", noise_offset=0.05), LatentFlowConfig)


def test_a_share_of_texts_is_the_impressions_alone():
    short = [float((draw(build(impressions_only=share), 200)["text"].pooled[:, 0] < 0).float().mean()) for share in (0, 0.3, 1)]
    assert short[0] == 0 and 0.2 < short[1] < 0.4 and short[2] == 1
    whole, some = draw(build()), draw(build(impressions_only=0.3))
    assert torch.equal(whole["spacing"], some["spacing"]), "the same cases, whatever their texts"


def test_texts_are_fitted_to_whole_reports_and_to_impressions_if_these_are_read():
    class Listener(Recorder):
        def fit_texts(self, texts):
            self.heard = [float(text.pooled[0, 0]) for text in texts]

    for share, expected in ((0.0, [1.0] * 5), (0.5, [1.0, -1.0] * 5)):
        backbone = Listener()
        build(backbone, impressions_only=share).prepare(Source())
        assert backbone.heard == expected


def test_batch_holds_blocks_with_what_belongs_to_them():
    objective = build()
    batch = draw(objective, 40)
    assert batch["target"].shape == (40, 2, 2, 3, 4) and batch["context"].shape == (40, 2, 1, 3, 4)
    for row in range(40):
        case = int(batch["spacing"][row, 2]) - 1
        start, depth = batch["position"][row].tolist()
        assert depth == 6
        assert torch.allclose(batch["target"][row, :, 0], torch.tensor(case + start / 10))
        if start == 0:
            assert batch["context"][row, :, 0, 0, 0].tolist() == [-1.0, -2.0]
        else:
            assert torch.allclose(batch["context"][row], torch.tensor(case + (start - 1) / 10))
        assert batch["text"].mask[row].sum() == case + 1
        assert batch["text"].tokens[row].sum() == 3 * (case + 1) ** 2
    assert len({int(value) for value in batch["spacing"][:, 2]}) == 5
    assert 0 < (batch["position"][:, 0] == 0).sum() < 40


def test_a_rollout_may_choose_how_each_batch_is_cut():
    class Varied(Rollout):
        def for_batch(self, size, generator):
            return (self, size) if torch.rand((), generator=generator) < 0.5 else (Wide(), 2 * size)

    class Wide(Rollout):
        def example(self, latent, markers, generator):
            return BlockExample(latent[:, :4], markers.start, 0, latent.shape[1])

    objective = build()
    objective.rollout = Varied()
    shapes = {tuple(draw(objective, 3, seed)["target"].shape[:3]) for seed in range(12)}
    assert shapes == {(3, 2, 2), (6, 2, 4)}


def test_batch_depends_on_its_generator_alone_and_draws_the_posterior_afresh():
    objective = build()
    source = Source(std=0.5)
    first, same, other = (draw(objective, 64, seed, source) for seed in (1, 1, 2))
    assert torch.equal(first["target"], same["target"])
    assert not torch.equal(first["target"], other["target"])
    case = (first["spacing"][:, 2] - 1).reshape(-1, 1, 1, 1, 1)
    slices = first["position"][:, 0].reshape(-1, 1, 1, 1, 1) + torch.tensor([0.0, 1.0]).reshape(1, 1, 2, 1, 1)
    residue = first["target"] - case - slices / 10
    assert residue.std().item() == pytest.approx(0.5, rel=0.05)


def test_markers_are_encoded_once_on_the_latents_plane():
    objective = build()
    objective.prepare(Source())
    draw(objective)
    assert objective.autoencoder.encoded == 2
    markers = objective.markers(3, 4)
    assert markers.start.shape == (2, 1, 3, 4)
    assert markers.start[:, 0, 0, 0].tolist() == [-1.0, -2.0]
    assert markers.end[:, 0, 2, 3].tolist() == [pytest.approx(0.6), pytest.approx(1.2)]
    assert not markers.start.requires_grad


@pytest.mark.parametrize("predicts", ["velocity", "noise", "clean"])
def test_a_perfect_prediction_has_no_loss(predicts):
    """The clean block is known here, so that noise and velocity follow from z = alpha x + sigma eps."""
    batch = draw(build(), 16)

    def answer(noisy: Tensor, time: Tensor, condition: Condition) -> Tensor:
        at = Schedule().coefficients(time)
        alpha, sigma, d_alpha, d_sigma = (
            value.float().reshape(-1, 1, 1, 1, 1) for value in (at.alpha, at.sigma, at.d_alpha, at.d_sigma)
        )
        noise = (noisy - alpha * batch["target"]) / sigma
        return {"velocity": d_alpha * batch["target"] + d_sigma * noise, "noise": noise, "clean": batch["target"]}[predicts]

    terms = build(Recorder(predicts, answer)).loss(batch, 1, generator_for(3))
    assert terms["loss"].item() < 1e-4
    wrong = build(Recorder(predicts)).loss(batch, 1, generator_for(3))
    assert wrong["loss"].item() > 0.5


def test_loss_by_quarter_of_time_and_first_block_share():
    objective = build(Recorder(answer=lambda noisy, time, condition: torch.zeros_like(noisy)))
    batch = draw(objective, 64)
    terms = objective.loss(batch, 1, generator_for(5))
    time = objective.model.time
    quarters = [((time >= number / 4) & (time < (number + 1) / 4)).sum().item() for number in range(4)]
    assert sum(quarters) == 64
    mean = sum(count * terms[f"loss_t{number}"].item() for number, count in enumerate(quarters)) / 64
    assert mean == pytest.approx(terms["loss"].item(), rel=1e-4)
    assert terms["first_block"].item() == pytest.approx((batch["position"][:, 0] == 0).float().mean().item())
    single = objective.loss(draw(objective, 1), 1, generator_for(5))
    assert sum(torch.isnan(single[f"loss_t{number}"]).item() for number in range(4)) == 3


def test_noise_depends_on_its_generator_and_has_unit_variance():
    objective = build()
    batch = draw(objective, 64)
    losses = [objective.loss(batch, 1, generator_for(seed))["loss"].item() for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]
    at = Schedule().coefficients(objective.model.time)
    noise = (objective.model.noisy - at.alpha.float().reshape(-1, 1, 1, 1, 1) * batch["target"]) / at.sigma.float().reshape(
        -1, 1, 1, 1, 1
    )
    assert noise.std().item() == pytest.approx(1, rel=0.05)
    assert noise.mean((2, 3, 4)).std().item() == pytest.approx(24**-0.5, rel=0.2)


def test_noise_offset_moves_whole_channels():
    objective = build(noise_offset=2.0)
    batch = draw(objective, 200)
    objective.loss(batch, 1, generator_for(1))
    at = Schedule().coefficients(objective.model.time)
    scaled = objective.model.noisy - at.alpha.float().reshape(-1, 1, 1, 1, 1) * batch["target"]
    means = (scaled / at.sigma.float().reshape(-1, 1, 1, 1, 1)).mean((2, 3, 4))
    assert means.std().item() == pytest.approx((4 + 1 / 24) ** 0.5, rel=0.1)
    assert abs(torch.corrcoef(means.T)[0, 1].item()) < 0.3


def test_context_noise_context_dropout_and_text_dropout():
    plain = build()
    batch = draw(plain, 400)
    plain.loss(batch, 1, generator_for(1))
    assert torch.equal(plain.model.condition.context, batch["context"]) and plain.model.condition.drop is None
    noisy = build(context_noise=0.05)
    noisy.loss(batch, 1, generator_for(1))
    assert (noisy.model.condition.context - batch["context"]).std().item() == pytest.approx(0.05, rel=0.1)
    dropping = build(context_dropout=0.25, text_dropout=0.4)
    dropping.loss(batch, 1, generator_for(1))
    empty = (dropping.model.condition.context == 0).flatten(1).all(1)
    assert empty.float().mean().item() == pytest.approx(0.25, abs=0.07)
    assert torch.equal(dropping.model.condition.context[~empty], batch["context"][~empty])
    assert dropping.model.condition.drop.float().mean().item() == pytest.approx(0.4, abs=0.08)


def test_the_context_noise_level_is_told():
    plain = build(context_noise=0.05)
    batch = draw(plain, 400)
    plain.loss(batch, 1, generator_for(1))
    assert torch.equal(plain.model.condition.context_level, torch.full((400,), 0.05))

    drawn = build(context_noise=0.8, context_noise_levels="uniform", context_dropout=0.25)
    drawn.loss(batch, 1, generator_for(1))
    levels, context = drawn.model.condition.context_level, drawn.model.condition.context
    dropped = (context == 0).flatten(1).all(1)
    assert (levels[dropped] == -1).all() and 60 < dropped.sum() < 140
    kept = levels[~dropped]
    assert kept.min() >= 0 and kept.max() <= 0.8
    assert kept.mean().item() == pytest.approx(0.4, abs=0.04) and kept.std().item() == pytest.approx(0.8 / 12**0.5, rel=0.1)
    # each sample has the noise that it is told of
    found = (context - batch["context"])[~dropped].flatten(1).square().mean(1).sqrt()
    assert torch.corrcoef(torch.stack([found, kept]))[0, 1] > 0.95
    assert (found / kept)[kept > 0.2].mean().item() == pytest.approx(1, abs=0.05)

    drawn.loss({**batch, "context": None}, 1, generator_for(1))
    assert drawn.model.condition.context is None and drawn.model.condition.context_level is None


def test_blocks_of_different_shapes_are_an_error_that_shows_them():
    objective = build()
    objective.rollout = SimpleNamespace(
        example=lambda latent, markers, generator: BlockExample(
            latent[:, : 1 + int(torch.randint(2, (), generator=generator))], None, 0, 6
        )
    )
    with pytest.raises(DataError, match=r"\(2, 1, 3, 4\), \(2, 2, 3, 4\)"):
        draw(objective, 16)


def test_text_is_padded_to_the_longest_and_masked():
    features = [Source().text(index) for index in (0, 2)]
    padded = pad_text(features)
    assert padded.tokens.shape == (2, 3, 3) and padded.mask.tolist() == [[True, False, False], [True, True, True]]
    assert padded.tokens[0, 1:].abs().sum() == 0 and padded.pooled.shape == (2, 3)
    assert pad_text([features[0], TextFeatures(features[1].tokens, features[1].mask)]).pooled is None


def test_built_in_components_learn(tmp_path):
    """Through the host, as a recipe builds them: the loss of a constant data set falls."""
    host = Host.discover()
    autoencoder = host.create("autoencoder", "tiny-ae", cell=4, channels=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = host.create("backbone", "tiny-conv", width=8, latent=autoencoder.latent, text=TextSpec(3, 8, 3))
    components = {"autoencoder": autoencoder, "text_encoder": None, "backbone": backbone}
    objective = host.create(
        "objective", "latent-flow", components=components,
        schedule=host.create("schedule", "linear-flow"), rollout=host.create("rollout", "whole-volume"),
    )  # fmt: skip
    config = settings(steps=60, batch=8, lr=5e-3, log_every=15, checkpoint_every=60, clip_norm=1.0)
    fit(objective, Source(), config, tmp_path, spec={})
    lines = read_metrics(tmp_path)
    assert lines[-1]["loss"] < 0.6 * lines[0]["loss"]
    assert {"loss_t0", "loss_t3", "first_block"} <= set(lines[-1])


def test_a_backbone_that_wants_to_know_the_reports_is_given_them_before_the_first_batch():
    class Reader(Recorder):
        def fit_texts(self, texts):
            self.lengths = [text.tokens.shape[1] for text in texts]

    backbone = Reader()
    build(backbone).prepare(Source(4))
    assert backbone.lengths == [1, 2, 3, 4]
