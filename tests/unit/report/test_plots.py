from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from ctgen.errors import DataError, MissingFileError
from ctgen.report.plots import hu_histograms, loss_curve, running_mean, slice_differences
from ctgen.volume import Volume


def volume(seed, depth=16):
    return Volume.canonical(np.random.default_rng(seed).normal(0, 200, (depth, 8, 8)).astype(np.float32), (3.0, 3.0, 3.0))


def size(path):
    with Image.open(path) as picture:
        picture.load()
        assert np.ptp(np.asarray(picture.convert("L"))) > 100
        return picture.size


def test_loss_curve_survives_a_torn_line_and_shows_the_other_numbers(tmp_path):
    log = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": step, "loss": 1 / step, "lr": 1e-4}) for step in range(1, 30)]
    log.write_text("\n".join(lines) + '\n{"step": 30, "lo')
    with_lr = size(loss_curve(log, tmp_path / "a.png"))
    log.write_text("\n".join(json.dumps({"step": step, "loss": 1.0}) for step in range(1, 3)))
    alone = size(loss_curve(log, tmp_path / "b.png"))
    assert with_lr[1] > alone[1]


def test_loss_curve_says_what_is_missing(tmp_path):
    with pytest.raises(MissingFileError, match=r"metrics\.jsonl"):
        loss_curve(tmp_path / "metrics.jsonl", tmp_path / "a.png")
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(DataError, match="no line"):
        loss_curve(tmp_path / "metrics.jsonl", tmp_path / "a.png")


def test_running_mean_keeps_constants_and_length():
    assert running_mean(np.full(50, 3.0)) == pytest.approx(np.full(50, 3.0))
    assert len(running_mean(np.arange(1.0))) == 1


def test_histograms_pool_volumes_of_one_name(tmp_path):
    twice = hu_histograms([("real", volume(0)), ("real", volume(0))], tmp_path / "a.png")
    once = hu_histograms([("real", volume(0))], tmp_path / "b.png")
    assert size(twice) == size(once)
    assert twice.read_bytes() == once.read_bytes()


def test_slice_differences_mark_boundaries_and_ignore_those_outside(tmp_path):
    def reds(path):
        pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
        return ((pixels[..., 0] - pixels[..., 1]) > 80).sum()

    plain = slice_differences([("real", volume(0), ())], tmp_path / "a.png")
    marked = slice_differences([("real", volume(0), (8, 16, 40))], tmp_path / "b.png")
    assert reds(marked) > reds(plain) + 50
    assert size(slice_differences([("real", volume(0), ()), ("made", volume(1), (8,))], tmp_path / "c.png"))[1] > size(plain)[1]
