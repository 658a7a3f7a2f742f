"""Each conformance check accepts a sound component and finds one defect at a time."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ctgen.builtin import configs
from ctgen.builtin.autoencoder import TinyAe
from ctgen.builtin.backbone import TinyConv
from ctgen.builtin.rollout import WholeVolume
from ctgen.builtin.schedule import LinearFlow
from ctgen.builtin.text_encoder import HashText
from ctgen.errors import UnknownComponentError
from ctgen.interfaces import (
    Case,
    CaseRequest,
    LatentSpec,
    Origin,
    Posterior,
    Report,
    RolloutResult,
    Skipped,
    TextFeatures,
    TextSpec,
    TokenGrid,
    WeightsInfo,
)
from ctgen.registry import KINDS
from ctgen.testing import CHECKS, MemorySource, check, phantom
from ctgen.volume import Volume
from ctgen.volume.io import write_volume

LATENT, TEXT = LatentSpec(4, (1, 8, 8)), TextSpec(8, 12, 8)


def changed(base: type, **members: Any) -> type:
    """A sub-class with some members replaced."""
    return type(f"Changed{base.__name__}", (base,), members)


def fails(kind: str, component: Any, message: str, *context: Any, **options: Any) -> None:
    with pytest.raises(AssertionError, match=message):
        check(kind, component, *context, **options)


def test_there_is_a_check_for_every_kind() -> None:
    assert set(CHECKS) == set(KINDS)
    with pytest.raises(UnknownComponentError, match="did you mean 'schedule'"):
        check("schedul", None)


# autoencoder

AE = configs.TinyAeConfig(channels=4)


def _noisy_encode(self: TinyAe, volume: torch.Tensor) -> Posterior:
    posterior = TinyAe.encode(self, volume)
    return Posterior(posterior.mean + torch.randn(posterior.mean.shape))


def _in_place(self: TinyAe, posterior: Posterior, *, generator: Any) -> torch.Tensor:
    return posterior.mean.mul_(2.0)


def _batch_norm(self: TinyAe, volume: torch.Tensor) -> Posterior:
    mean = TinyAe.encode(self, volume).mean
    return Posterior(mean - mean.mean())


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"encode": _noisy_encode}, "global generator|encode twice"),
        ({"encode": _batch_norm}, "alone and in a batch"),
        ({"finalise": _in_place}, "must not change the posterior: -?[0-9.]+ and -?[0-9.]+ differ"),
        ({"decode": lambda self, latent: latent}, r"decode\(latent\): shape: found .* wanted \(2, 1, 2, 32, 32\)"),
        ({"encode": lambda self, volume: Posterior(TinyAe.encode(self, volume).mean / 0)}, "are not finite"),
        ({"decode": lambda self, latent: TinyAe.decode(self, latent).detach().requires_grad_()}, "reaches 0 of 2 parameters"),
    ],
)
def test_autoencoder(members: dict[str, Any], message: str) -> None:
    check("autoencoder", TinyAe(AE))
    fails("autoencoder", changed(TinyAe, **members)(AE), message)


def test_autoencoder_attributes() -> None:
    autoencoder = TinyAe(AE)
    autoencoder.latent = LatentSpec(5, (1, 8, 8))
    fails("autoencoder", autoencoder, "channels=4.*channels=5")
    autoencoder = TinyAe(AE)
    autoencoder.marker_hu = (0.0, 0.0)
    fails("autoencoder", autoencoder, "marker_hu: both ends are 0.0")


# text encoder

WORDS = configs.HashTextConfig(width=8, max_tokens=12)


def _padding_leaks(self: HashText, prompts: Any) -> TextFeatures:
    features = HashText.encode(self, prompts)
    return replace(features, pooled=features.tokens.mean((0, 1)).expand(len(prompts), -1))


def _empty_mask(self: HashText, prompts: Any) -> TextFeatures:
    features = HashText.encode(self, prompts)
    return replace(features, mask=features.mask & False)


@pytest.mark.parametrize(
    ("encode", "message"),
    [
        (_padding_leaks, "pooled in a batch and alone"),
        (_empty_mask, "0 tokens, wanted at least 1"),
        (lambda self, prompts: HashText.encode(self, [prompts[0]] * len(prompts)), "in a batch and alone"),
        (lambda self, prompts: replace(HashText.encode(self, prompts), pooled=None), "no pooled vector"),
    ],
)
def test_text_encoder(encode: Callable[..., Any], message: str) -> None:
    check("text_encoder", HashText(WORDS))
    fails("text_encoder", changed(HashText, encode=encode)(WORDS), message)


# backbone

NET = configs.TinyConvConfig(width=8, layers=1)


def _deaf(self: TinyConv, noisy: Any, time: Any, condition: Any) -> torch.Tensor:
    silent = TextFeatures(condition.text.tokens * 0, condition.text.mask, None)
    return TinyConv.forward(self, noisy, time, replace(condition, text=silent, drop=None))


def _ignores_drop(self: TinyConv, noisy: Any, time: Any, condition: Any) -> torch.Tensor:
    return TinyConv.forward(self, noisy, time, replace(condition, drop=None))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"forward": _deaf}, "when text changes: the largest difference is 0"),
        ({"forward": _ignores_drop}, "a dropped element with another text"),
        ({"forward": lambda self, n, t, c: TinyConv.forward(self, n, t, c)[:, :, :1]}, "shape: found"),
        ({"forward": lambda self, n, t, c: TinyConv.forward(self, n, t, c) - n.mean()}, "alone and in a batch"),
        (
            {"forward": lambda self, n, t, c: TinyConv.forward(self, n, t, c) + torch.randn(())},
            "global generator|forward twice",
        ),
        ({"predicts": "speed"}, "predicts: found 'speed'"),
    ],
)
def test_backbone(members: dict[str, Any], message: str) -> None:
    check("backbone", TinyConv(NET, latent=LATENT, text=TEXT), latent=LATENT, text=TEXT)
    fails("backbone", changed(TinyConv, **members)(NET, latent=LATENT, text=TEXT), message, latent=LATENT, text=TEXT)


# classifier


class Sees(nn.Module):
    """Means of four columns; of each part too."""

    weights = WeightsInfo("RANDOM")
    token_channels = (18,)

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Linear(4, 18)
        self.read.weight.data = torch.randn(18, 4, generator=torch.Generator().manual_seed(0)) / 1000

    def forward(self, volume: Tensor) -> Tensor:
        return self.read(volume.mean((1, 2, 3)).unflatten(1, (4, -1)).mean(2))

    def classify_places(self, volume: Tensor) -> tuple[Tensor, list[Tensor]]:
        tokens = nn.functional.avg_pool3d(volume, (4, 8, 8))[:, 0, ..., None].expand(-1, -1, -1, -1, 18)
        return self(volume), [tokens]

    def token_grids(self, shape: Any) -> list[TokenGrid]:
        return [TokenGrid((slice(0, 8), slice(0, 32), slice(0, 32)), (4, 8, 8))]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"forward": lambda self, volume: Sees.forward(self, volume)[:, :17]}, r"wanted \(2, 18\)"),
        ({"forward": lambda self, volume: Sees.forward(self, volume.mul_(0.5))}, "must not change its input"),
        ({"forward": lambda self, volume: Sees.forward(self, volume) - volume.mean()}, "alone and in a batch"),
        ({"forward": lambda self, volume: Sees.forward(self, volume * 0)}, "the logits of two volumes"),
        ({"forward": lambda self, volume: Sees.forward(self, volume).detach().requires_grad_()}, "reach 0 of 2 parameters"),
        ({"forward": lambda self, volume: Sees.forward(self, volume) + torch.rand(())}, "global generator|forward twice"),
        ({"classify_places": lambda self, volume: (self(volume) + 1, Sees.classify_places(self, volume)[1])}, "places: logits"),
        ({"token_channels": (18, 18)}, "token_channels, levels and token_grids"),
        ({"token_grids": lambda self, shape: [TokenGrid((slice(0, 8),) + (slice(0, 40),) * 2, (4, 8, 8))]}, "is not within 32"),
        ({"token_grids": lambda self, shape: [TokenGrid((slice(0, 8),) + (slice(0, 32),) * 2, (4, 8, 7))]}, "do not tile 32"),
        ({"token_grids": lambda self, shape: [TokenGrid((slice(0, 4),) + (slice(0, 32),) * 2, (4, 8, 8))]}, "level 0: tokens"),
        ({"weights": None}, "weights: found NoneType"),
    ],
)
def test_classifier(members: dict[str, Any], message: str) -> None:
    check("classifier", Sees())
    fails("classifier", changed(Sees, **members)(), message)


# schedule

LINE = configs.LinearFlowConfig()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"coefficients": lambda self, t: LinearFlow.coefficients(self, 1 - t)}, r"alpha\(0\) = 0, wanted 1"),
        (
            {"coefficients": lambda self, t: replace(LinearFlow.coefficients(self, t), d_sigma=2 * torch.ones_like(t))},
            "d_sigma and the finite difference of sigma: 2 and 1 differ by 1",
        ),
        (
            {"coefficients": lambda self, t: replace(LinearFlow.coefficients(self, t), sigma=t.float())},
            "sigma: dtype: found torch.float32, wanted torch.float64",
        ),
        ({"sampling_times": lambda self, steps, cells: torch.linspace(0, 1, steps + 1).double()}, "first and last"),
        ({"sampling_times": lambda self, steps, cells: torch.linspace(1, 0, steps).double()}, "shape: found"),
        ({"training_times": lambda self, batch, generator: torch.rand(batch).double()}, "torch's global generator"),
        (
            {"training_times": lambda self, batch, generator: torch.rand(batch, generator=generator).double() * 2},
            r"found .* wanted 0 \.\. 1",
        ),
    ],
)
def test_schedule(members: dict[str, Any], message: str) -> None:
    check("schedule", LinearFlow(LINE))
    fails("schedule", changed(LinearFlow, **members)(LINE), message)


# rollout

WHOLE = configs.WholeVolumeConfig()


def _result(**changes: Any) -> Callable[..., RolloutResult]:
    def generate(self: WholeVolume, denoise: Any, **given: Any) -> RolloutResult:
        result = WholeVolume.generate(self, denoise, **given)
        return replace(result, **{name: change(result) for name, change in changes.items()})

    return generate


def _shifted(self: WholeVolume, latent: Any, markers: Any, generator: Any) -> Any:
    example = WholeVolume.example(self, latent, markers, generator)
    return replace(example, context=example.target[:, :2])


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"example": _shifted}, "context against the 2 slices before 0"),
        ({"generate": _result(latent=lambda r: r.latent[:, 1:])}, "latent: shape"),
        ({"generate": _result(latent=lambda r: r.latent.flip(1))}, "slices in order"),
        ({"generate": _result(boundaries=lambda r: (0,))}, r"boundaries \[0\] are outside"),
        ({"generate": _result(stopped_by=lambda r: "limit")}, "stopped_by: found 'limit', wanted 'length'"),
        ({"generate": _result(boundaries=lambda r: ())}, r"boundaries \(\), wanted 1 among them"),
        (
            {"generate": lambda self, denoise, **given: WholeVolume.generate(self, denoise, **{**given, "head": None})},
            "the head",
        ),
    ],
)
def test_rollout(members: dict[str, Any], message: str) -> None:
    check("rollout", WholeVolume(WHOLE))
    check("rollout", WholeVolume(configs.WholeVolumeConfig(depth=24)))
    fails("rollout", changed(WholeVolume, **members)(WHOLE), message)


# objective


class Regression:
    """Predicts a volume's mean from nothing: the smallest objective."""

    trains, reads = "autoencoder", "volumes"
    adversary: nn.Module | None = None

    def __init__(self) -> None:
        self.model: nn.Module = nn.Linear(1, 1)

    def batch(self, source: Any, size: int, generator: torch.Generator) -> dict[str, Any]:
        rows = torch.randint(8, (size,), generator=generator).tolist()
        return {"mean": torch.stack([source.volume(0, slice(row, row + 1)).mean()[None] / 1000 for row in rows])}

    def loss(self, batch: dict[str, Any], step: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        return {"loss": (self.model(torch.ones_like(batch["mean"])) - batch["mean"]).square().mean()}

    def adversary_loss(self, batch: dict[str, Any], step: int) -> dict[str, torch.Tensor]:
        return {}


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"trains": "everything"}, "trains: found 'everything'"),
        ({"batch": lambda self, source, size, generator: {"mean": torch.rand(size, 1)}}, "global generator"),
        ({"batch": lambda self, source, size, generator: {"mean": torch.ones(size, 1)}}, "nine seeds give one batch"),
        (
            {"loss": lambda self, b, s, g: {"loss": -Regression.loss(self, b, s, g)["loss"].detach().requires_grad_()}},
            "reaches 0 of 2",
        ),
        ({"loss": lambda self, b, s, g: {"loss": Regression.loss(self, b, s, g)["loss"] * float("nan")}}, "wanted a finite"),
        ({"loss": lambda self, b, s, g: {"error": torch.zeros(())}}, r"keys \['error'\], wanted 'loss'"),
    ],
)
def test_objective(members: dict[str, Any], message: str) -> None:
    check("objective", Regression(), MemorySource())
    fails("objective", changed(Regression, **members)(), message, MemorySource())


# data set


class Phantoms:
    ids = ("a", "b")
    skipped: tuple[Skipped, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Case:
        return Case(self.ids[index], phantom(seed=index), Report("Clear."), {"Emphysema": 0})


class ChangedPhantoms(Phantoms):
    """Named at module level so that it can be pickled; the tests set ``change``."""

    change: Callable[[Case], Case] = staticmethod(lambda case: case)

    def __getitem__(self, index: int) -> Case:
        return type(self).change(super().__getitem__(index))


def _rescaled(case: Case) -> Case:
    hu = (case.volume.hu / 1000).astype(np.float32)
    return replace(case, volume=replace(case.volume, hu=hu))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda case: replace(case, id="other"), "found 'other', wanted 'b'"),
        (lambda case: replace(case, labels={"emphysema": 1}), "'emphysema'.*not among the 18"),
        (lambda case: replace(case, labels={"Emphysema": 2}), r"label values \[2\]"),
        (lambda case: replace(case, split="test"), "split 'test'"),
        (lambda case: replace(case, masks={"Emphysem": case.volume.hu > 0}), "a mask of 'Emphysem', which is not among the 18"),
        (lambda case: replace(case, masks={"Emphysema": case.volume.hu}), "the mask of Emphysema is int16, wanted bool"),
        (lambda case: replace(case, masks={"Emphysema": case.volume.hu[1:] > 0}), "shape of the mask of Emphysema"),
        (lambda case: replace(case, masks={"Emphysema": case.volume.hu > time.perf_counter_ns() % 97}), "differing voxels of"),
        (_rescaled, "were they rescaled"),
        (lambda case: replace(case, volume=Volume(case.volume.hu, np.zeros((4, 4)))), "determinant is 0"),
        (lambda case: replace(case, volume=phantom(seed=random.randrange(10**9))), "Python's global generator"),
    ],
)
def test_dataset(change: Callable[[Case], Case], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check("dataset", ChangedPhantoms())
    monkeypatch.setattr(ChangedPhantoms, "change", staticmethod(change))
    fails("dataset", ChangedPhantoms(), message)


@pytest.mark.parametrize(
    ("ids", "message"), [(("a", "a"), "2 ids, 1 of them"), (("a", "../b"), "no file names"), ((), "0 cases")]
)
def test_dataset_ids(ids: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Phantoms, "ids", ids)
    fails("dataset", Phantoms(), message)


class Traceable(Phantoms):
    """Says where its cases come from; the tests set ``told``."""

    told: Callable[[int], Origin] = staticmethod(lambda index: Origin((), {"index": index}))

    def origin(self, index: int) -> Origin:
        return type(self).told(index)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (lambda index: Origin((), {}), "are the same, but 'b' is another case"),
        (lambda index: Origin((Path("/nowhere/scan.nii"),), {"index": index}), "no file at"),
        (lambda index: {"index": index}, "found dict, wanted an Origin"),
        (lambda index: Origin((), {"index": random.random()}), "from a pickled copy: facts"),
    ],
)
def test_dataset_origins(told: Callable[[int], Origin], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check("dataset", Traceable())
    monkeypatch.setattr(Traceable, "told", staticmethod(told))
    fails("dataset", Traceable(), message)


class Greedy:
    """A rollout that reads more than once, or not what ``example`` shows."""

    def __init__(self, inner: Any, offset: int = 0, again: bool = False) -> None:
        self.inner, self.offset, self.again = inner, offset, again

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def example_from(self, read: Callable[[int, int], Tensor], depth: int, markers: Any, generator: Any) -> Any:
        if self.again:
            read(0, 1)
        return self.inner.example_from(
            lambda first, end: read(first + self.offset, end + self.offset), depth, markers, generator
        )


@pytest.mark.parametrize(
    ("fields", "message"), [({"again": True}, "reads of example_from"), ({"offset": 1}, "example_from reads slices|target of")]
)
def test_rollouts_that_read_for_themselves(fields: dict[str, Any], message: str) -> None:
    inner = WholeVolume(configs.WholeVolumeConfig(depth=40))
    check("rollout", Greedy(inner))
    fails("rollout", Greedy(inner, **fields), message)


# metric


class MeanHu:
    higher_is_better = {"mean_hu": None}
    needs = frozenset({"generated"})

    def __init__(self) -> None:
        self.total, self.count = 0.0, 0

    def update(self, item: Any) -> None:
        self.total, self.count = self.total + float(item.generated.hu.mean()), self.count + 1

    def merge(self, other: MeanHu) -> None:
        self.total, self.count = self.total + other.total, self.count + other.count

    def compute(self) -> dict[str, float]:
        return {"mean_hu": self.total / self.count}


class ForgetsOnMerge(MeanHu):
    def merge(self, other: MeanHu) -> None:
        self.count += 0


class OtherKey(MeanHu):
    def compute(self) -> dict[str, float]:
        return {"mean": 1.0}


class AveragesAverages(MeanHu):
    def merge(self, other: MeanHu) -> None:
        if self.count == 0:
            super().merge(other)
            return
        self.total, self.count = self.total / self.count + other.total / other.count + 1.0, 2


class NotANumber(MeanHu):
    def compute(self) -> dict[str, float]:
        return {"mean_hu": float("nan")}


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (ForgetsOnMerge, "two halves merged, and all in one: mean_hu is"),
        (AveragesAverages, "two halves merged"),
        (OtherKey, r"\['mean'\] have no direction"),
        (NotANumber, "wanted a finite float"),
    ],
)
def test_metric(metric: type, message: str) -> None:
    check("metric", MeanHu())
    fails("metric", metric(), message)


# exporter


class Nifti:
    suffix = ".nii.gz"

    def write(self, volume: Volume, path: Path) -> Path:
        return write_volume(volume, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda volume: replace(volume, affine=volume.affine * 1.001), "affine differs by"),
        (lambda volume: replace(volume, hu=volume.hu.clip(-1000, 300)), "voxels differ by up to"),
        (lambda volume: replace(volume, hu=volume.hu[:-1]), "shape: found"),
    ],
)
def test_exporter(change: Callable[[Volume], Volume], message: str, tmp_path: Path) -> None:
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
    check("exporter", Nifti(), tmp_path / "good")
    bad = changed(Nifti, write=lambda self, volume, path: write_volume(change(volume), path))()
    fails("exporter", bad, message, tmp_path / "bad")


# generator


class Made:
    def generate(self, request: CaseRequest, seed: int) -> Volume:
        return phantom((request.slices or 12, 32, 32), seed=seed * 1000 + len(request.id))


@pytest.mark.parametrize(
    ("generate", "message"),
    [
        (lambda self, request, seed: phantom(seed=seed), "slices: found 12, wanted 8"),
        (lambda self, request, seed: phantom((8, 32, 32), seed=seed), "ids case-a and case-a-2 give the same volume"),
        (lambda self, request, seed: phantom((8, 32, 32), seed=len(request.id)), "seeds 11 and 12 give the same volume"),
        (lambda self, request, seed: phantom((8, 32, 32), seed=random.randrange(10**9)), "global generator"),
    ],
)
def test_generator(generate: Callable[..., Volume], message: str) -> None:
    check("generator", Made())
    fails("generator", changed(Made, generate=generate)(), message)


def test_messages_hold_without_assert_statements() -> None:
    """Checks must work under ``python -O``: they raise, they do not assert."""
    folder = Path(check.__code__.co_filename).parent
    for file in folder.glob("*.py"):
        assert "    assert " not in file.read_text(encoding="utf-8"), file.name
