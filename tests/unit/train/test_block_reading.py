"""Training reads blocks and not volumes: how much is read, by how many processes, and that nothing else changes."""

from __future__ import annotations

import pytest
import torch

from ctgen.atomic import write_json
from ctgen.data.latents import LatentStore, merge_parts, write_index, write_part
from ctgen.data.prepared import PreparedCases, write_case
from ctgen.data.source import Source
from ctgen.host import Host
from ctgen.interfaces import Case, Posterior, Report, TextFeatures, TextSpec
from ctgen.testing import phantom
from ctgen.train.batches import step_loader

from .toys import settings

HOST = Host.discover()
DEPTHS = (40, 23, 9)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Three cases in two shards; slice i of case k holds k + i / 100, with a posterior of almost no width."""
    root = tmp_path_factory.mktemp("blocks")
    parts = []
    for number, depth in enumerate(DEPTHS):
        volume = phantom((depth, 16, 16), (5.0, 5.0, 5.0), seed=number)
        write_case(root, Case(str(number), volume, Report("Clear."), {"Lung nodule": number % 2}), volume, {})
        mean = (number + torch.arange(depth) / 100).reshape(1, 1, depth, 1, 1).expand(1, 4, depth, 4, 4)
        text = TextFeatures(torch.full((1, 2, 3), float(number)), torch.ones((1, 2), dtype=torch.bool), torch.ones(1, 3))
        write_part(root / f"{number}.h5", Posterior(mean, torch.full(mean.shape, -20.0)), text)
        parts.append((str(number), root / f"{number}.h5"))
    merge_parts(parts[:2], root / "shards" / "a.h5")
    merge_parts(parts[2:], root / "shards" / "b.h5")
    places = [("0", "shards/a.h5", "0"), ("1", "shards/a.h5", "1"), ("2", "shards/b.h5", "2")]
    write_index(places, root / "latents.h5")
    write_json(root / "manifest.json", {"cases": [{"id": name, "split": "train"} for name, _ in parts], "skipped": []})
    return Source(PreparedCases(root), LatentStore(root / "latents.h5"), "train")


def build(rollout="slice-blocks", **fields):
    autoencoder = HOST.create("autoencoder", "tiny-ae", cell=4, channels=4)
    with torch.random.fork_rng():
        backbone = HOST.create("backbone", "tiny-conv", width=4, latent=autoencoder.latent, text=TextSpec(3, 8, 3))
    components = {"autoencoder": autoencoder, "text_encoder": None, "backbone": backbone}
    block = {"block": 4} if rollout == "slice-blocks" else {"depth": 4}
    return HOST.create(
        "objective", "latent-flow", components=components, schedule=HOST.create("schedule", "linear-flow"),
        rollout=HOST.create("rollout", rollout, **block), **fields,
    )  # fmt: skip


def test_a_slice_of_a_case_equals_the_slice_of_the_whole(source):
    for index, depth in enumerate(DEPTHS):
        whole = source.posterior(index)
        assert source.latent_shape(index) == (4, depth, 4, 4) == tuple(whole.mean.shape[1:])
        part = source.posterior(index, slice(3, 7))
        assert torch.equal(part.mean, whole.mean[:, :, 3:7]) and torch.equal(part.logvar, whole.logvar[:, :, 3:7])
        assert source.posterior(index, slice(depth, depth)).mean.shape == (1, 4, 0, 4, 4)


@pytest.mark.parametrize("rollout", ["slice-blocks", "whole-volume"])
def test_only_the_slices_of_the_blocks_are_read(source, monkeypatch, rollout):
    read = []
    posterior = LatentStore.posterior

    def noted(self, case, slices=None):
        read.append((case, slices))
        return posterior(self, case, slices)

    monkeypatch.setattr(LatentStore, "posterior", noted)
    batch = build(rollout).batch(source, 64, torch.Generator().manual_seed(0))
    assert len(read) == 64
    assert all(slices is not None and slices.stop - slices.start <= 8 for _, slices in read)
    for row, (case, _) in enumerate(read):
        start, depth = (int(value) for value in batch["position"][row])
        assert depth == DEPTHS[int(case)]
        if start < depth:
            raw = build().autoencoder.finalise(posterior(source.latents, case, slice(start, start + 1)), generator=None)
            assert torch.allclose(batch["target"][row, :, 0], raw[0, :, 0], atol=1e-3)


class WholeOnly:
    """A rollout by somebody who only knows ``example``."""

    def __init__(self, inner):
        self.inner, self.config = inner, inner.config

    def example(self, latent, markers, generator):
        self.seen = latent.shape
        return self.inner.example(latent, markers, generator)


def test_a_rollout_that_cannot_ask_gets_the_whole_volume(source):
    objective = build()
    objective.rollout = WholeOnly(objective.rollout)
    batch = objective.batch(source, 3, torch.Generator().manual_seed(0))
    assert batch["target"].shape == (3, 4, 4, 4, 4)
    assert objective.rollout.seen[1] in DEPTHS


def batches(source, *, workers, first_step=1, rank=0, **fields):
    objective = build(**fields)
    objective.prepare(source)
    config = settings(steps=6, batch=3, workers=workers, accumulate=2)
    return [batch["target"] for batch in step_loader(objective, source, config, rank=rank, first_step=first_step)]


@pytest.mark.parametrize("fields", [{}, {"balance": "labels"}])
def test_batches_do_not_depend_on_workers_or_on_where_one_starts(source, fields):
    alone = batches(source, workers=0, **fields)
    assert len(alone) == 12
    for other in (batches(source, workers=2, **fields), [*alone[:6], *batches(source, workers=2, first_step=4, **fields)]):
        assert len(other) == 12
        assert all(torch.equal(one, two) for one, two in zip(alone, other, strict=True))


def test_ranks_see_different_batches(source):
    one, two = (batches(source, workers=0, rank=rank) for rank in (0, 1))
    assert not any(torch.equal(first, second) for first, second in zip(one, two, strict=True))


def test_a_reader_forked_with_open_files_opens_its_own(source):
    source.posterior(0)
    process = source.latents._process
    # workers of the loader are forked here: they find the parent's open files and leave them alone
    assert all(torch.equal(one, two) for one, two in zip(batches(source, workers=1), batches(source, workers=0), strict=True))
    assert source.latents._process == process
    assert source.posterior(0).mean.isfinite().all()
