"""The encode stage: resumed by part, deterministic, checked."""

from __future__ import annotations

from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch

from ctgen.data.latent_stats import case_stats
from ctgen.data.latents import LatentStore, write_part
from ctgen.data.prepared import PreparedCases
from ctgen.errors import StageError
from ctgen.host import Host
from ctgen.interfaces import LatentSpec, Posterior, Prompt, Report, TextFeatures
from ctgen.stages import run
from ctgen.stages.encode import _cut_prompts, decode_slices, encode_slices

from .tiny import Said, load, read, stage_folder, write_recipe

HOST = Host.discover()
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def recipe_path(tmp_path_factory):
    return write_recipe(tmp_path_factory.mktemp("encode"))


@pytest.fixture(scope="module")
def encoded(recipe_path):
    run_dir = recipe_path.parent / "run"
    run(load(recipe_path), run_dir=run_dir, until="encode")
    return stage_folder(run_dir, "encode")


def test_the_cache_holds_every_case(encoded, recipe_path):
    prepared = PreparedCases(stage_folder(recipe_path.parent / "run", "prepare"))
    store = LatentStore(encoded / "latents.h5")
    parts = HOST.create("autoencoder", "tiny-ae", cell=8, channels=4)
    for case_id in ("scan0", "scan1", "scan2", "scan3"):
        expected = encode_slices(parts, prepared.array(case_id), 3, CPU).mean
        assert torch.allclose(store.posterior(case_id).mean, expected, atol=2e-3)
        assert store.text(case_id).tokens.shape[2] == 8
    assert read(encoded / "manifest.json")["cases"] == ["scan0", "scan1", "scan2", "scan3"]


def test_the_summary_says_how_well_the_codec_fits(encoded, recipe_path, tmp_path):
    coarse = read(encoded / "stage.json")["summary"]
    assert coarse["cases"] == 4
    assert 0 < coarse["latent_std"] < 10
    run(load(recipe_path, "autoencoder.cell=2"), run_dir=tmp_path, until="encode")
    lossless = read(stage_folder(tmp_path, "encode") / "stage.json")["summary"]
    assert 50 < coarse["decoded_error_hu"] < 500
    assert lossless["decoded_error_hu"] < 1


def test_the_check_can_be_left_out(recipe_path, tmp_path):
    run(load(recipe_path, "encode.check_cases=0"), run_dir=tmp_path, until="encode")
    assert "decoded_error_hu" not in read(stage_folder(tmp_path, "encode") / "stage.json")["summary"]


def test_impressions_are_encoded_alone_where_a_report_has_any(recipe_path, tmp_path):
    table = "id,findings,impressions\nscan0,The lungs are clear.,Large left effusion.\nscan1,Nodule.,\n"
    (tmp_path / "reports.csv").write_text(table, encoding="utf-8")
    reports = f"data.reports={tmp_path / 'reports.csv'}"
    run(load(recipe_path, reports), run_dir=tmp_path / "run", until="encode")
    run(load(recipe_path, reports, "encode.impressions=true"), run_dir=tmp_path / "run", until="encode")
    folders = {read(path / "stage.json")["summary"].get("impressions"): path for path in (tmp_path / "run").glob("encode-*")}
    without, store = LatentStore(folders[None] / "latents.h5"), LatentStore(folders[1] / "latents.h5")
    encoder = HOST.create("text_encoder", "hash-text", width=8, max_tokens=16)
    (alone,) = encoder.encode([Prompt(Report("Large left effusion."), slices=8)]).tokens
    found = store.text("scan0", impressions=True).tokens[0]
    assert torch.allclose(found, alone[: len(found)], atol=1e-3) and not alone[len(found) :].any()
    for case_id in ("scan0", "scan1", "scan2"):
        assert torch.equal(store.text(case_id).tokens, without.text(case_id).tokens)
        assert torch.equal(without.text(case_id, impressions=True).tokens, without.text(case_id).tokens)
    assert torch.equal(store.text("scan1", impressions=True).tokens, store.text("scan1").tokens)


def test_impressions_that_no_report_has_are_an_error(recipe_path, tmp_path):
    with pytest.raises(StageError, match="no report of this data set has impressions"):
        run(load(recipe_path, "encode.impressions=true"), run_dir=tmp_path, until="encode")


def interrupted(recipe_path, encoded, folder):
    """A run folder whose encode stage was stopped before its end, and the parts that were written."""
    run_dir = folder / "run"
    run(load(recipe_path), run_dir=run_dir, until="prepare")
    encode = run_dir / encoded.name
    (encode / "parts").mkdir(parents=True)
    return run_dir, encode


def test_a_part_that_is_there_is_not_computed_again(recipe_path, encoded, tmp_path):
    run_dir, folder = interrupted(recipe_path, encoded, tmp_path)
    seven, text = torch.full((1, 4, 8, 2, 2), 7.0), TextFeatures(torch.zeros(1, 1, 8), torch.ones(1, 1, dtype=torch.bool))
    write_part(folder / "parts" / "scan1.h5", Posterior(seven), text, stats=case_stats(Posterior(seven)))
    run(load(recipe_path), run_dir=run_dir, until="encode")
    store, whole = LatentStore(folder / "latents.h5"), LatentStore(encoded / "latents.h5")
    assert (store.posterior("scan1").mean == 7).all()
    assert torch.equal(store.posterior("scan0").mean, whole.posterior("scan0").mean)


def test_what_a_kill_left_in_the_parts_folder_does_no_harm(recipe_path, encoded, tmp_path):
    run_dir, folder = interrupted(recipe_path, encoded, tmp_path)
    (folder / "parts" / ".writing-abc").mkdir()
    (folder / "parts" / ".writing-abc" / "scan0.h5").write_bytes(b"half a file")
    run(load(recipe_path), run_dir=run_dir, until="encode")
    assert (folder / "latents.h5").read_bytes() == (encoded / "latents.h5").read_bytes()
    assert not (folder / "parts").exists()


def test_killed_after_the_merge_nothing_is_encoded_again(recipe_path, encoded, tmp_path, monkeypatch):
    run_dir, folder = interrupted(recipe_path, encoded, tmp_path)
    run(load(recipe_path), run_dir=run_dir, until="encode")
    summary = read(folder / "stage.json")["summary"]
    (folder / "stage.json").unlink()
    (folder / "parts").mkdir()
    (folder / "parts" / "scan3.h5").write_bytes(b"one that was not removed yet")
    monkeypatch.setattr("ctgen.stages.encode.encode_slices", lambda *arguments: pytest.fail("encoded again"))
    run(load(recipe_path), run_dir=run_dir, until="encode")
    assert read(folder / "stage.json")["summary"] == summary
    assert not (folder / "parts").exists()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e6])
def test_latents_that_half_precision_cannot_hold_are_an_error(recipe_path, tmp_path, monkeypatch, bad):
    def broken(*arguments):
        return Posterior(torch.full((1, 4, 8, 2, 2), bad))

    monkeypatch.setattr("ctgen.stages.encode.encode_slices", broken)
    with pytest.raises(StageError, match=r"latents for case scan0 do not fit half precision"):
        run(load(recipe_path), run_dir=tmp_path / "run", until="encode")
    assert not list((tmp_path / "run").glob("encode-*/latents.h5"))


class Strided:
    """A codec with a stride along D must see the whole volume at once."""

    latent = LatentSpec(1, (2, 1, 1))

    def encode(self, volume):
        self.seen = volume.shape[2]
        return Posterior(volume[:, :, ::2], volume[:, :, ::2] * 0)

    def decode(self, latent):
        return latent.repeat_interleave(2, dim=2)


def test_codecs_with_a_stride_along_d_see_the_whole_volume():
    codec = Strided()
    hu = np.arange(40, dtype=np.int16)[:, None, None] * np.ones((1, 2, 2), np.int16)
    posterior = encode_slices(codec, hu, 16, CPU)
    assert codec.seen == 40
    assert posterior.mean.shape == posterior.logvar.shape == (1, 1, 20, 2, 2)
    assert decode_slices(codec, posterior.mean, CPU).shape == (40, 2, 2)


@pytest.mark.parametrize("batch_slices", [1, 3, 100])
def test_batches_of_slices_change_nothing(batch_slices):
    codec = HOST.create("autoencoder", "tiny-ae", cell=4, channels=16)
    hu = np.random.default_rng(0).integers(-1000, 1000, (7, 8, 8)).astype(np.int16)
    whole = encode_slices(codec, hu, 7, CPU)
    parts = encode_slices(codec, hu, batch_slices, CPU)
    assert torch.allclose(parts.mean, whole.mean, atol=1e-6)
    latent = codec.finalise(parts, generator=None)
    assert torch.allclose(decode_slices(codec, latent, CPU, batch_slices), torch.from_numpy(hu).float(), atol=0.01)


class Counts(NamedTuple):
    texts: int
    cut: int
    longest: int


class Counting:
    """A text encoder that reads 3 words."""

    def token_counts(self, prompts):
        lengths = [len(prompt.report.findings.split()) for prompt in prompts]
        return Counts(len(lengths), sum(length > 3 for length in lengths), max(lengths))


def test_prompts_that_are_cut_are_counted_and_told():
    context = SimpleNamespace(console=Said())
    short, long = Prompt(Report("clear lungs")), Prompt(Report("a nodule in the right lung"))
    assert _cut_prompts(context, Counting(), [short, short]) == {"cut_prompts": 0, "longest_prompt_tokens": 2}
    assert context.console.lines == []
    assert _cut_prompts(context, Counting(), [short, long]) == {"cut_prompts": 1, "longest_prompt_tokens": 6}
    assert context.console.lines == ["1 of 2 prompts were cut (the longest has 6 tokens)"]
    assert _cut_prompts(context, object(), [long]) == {}, "an encoder need not count"
