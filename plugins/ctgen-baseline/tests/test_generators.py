"""Generators whose answer is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ctgen import Host
from ctgen.errors import ConfigError, DataError
from ctgen.interfaces import Case, CaseRequest, Report
from ctgen.testing import check_generator, phantom
from ctgen.testing.generator import MemoryCases
from ctgen.volume import Volume

HOST = Host.discover()
TINY = {"use": "builtin:tiny-ae", "channels": 64}
"""A lossless codec: 8 x 8 coefficients of 8 x 8 pixels."""
REPORTS = (
    "Large right pleural effusion with passive atelectasis.",
    "Solid nodule of 8 mm in the left upper lobe.",
    "Cardiomegaly. The lungs are clear.",
)


def cases(count: int = 3, seed: int = 0) -> MemoryCases:
    return MemoryCases([Case(f"case-{n}", phantom((6, 16, 16), seed=seed + n), Report(REPORTS[n % 3])) for n in range(count)])


def prepared(name: str, train: Any = None, held_out: Any = None, **fields: Any) -> Any:
    generator = HOST.create("generator", f"baseline:{name}", **fields)
    generator.prepare(cases() if train is None else train, cases(seed=5) if held_out is None else held_out)
    return generator


@pytest.mark.parametrize(
    ("name", "fields", "draws"),
    [
        ("mean-volume", {}, False),
        ("nearest-train", {}, False),
        ("vae-roundtrip", {"autoencoder": TINY}, False),
        ("noise", {}, True),
        ("noise", {"space": "latent", "autoencoder": TINY}, True),
    ],
)
def test_conforms(name: str, fields: dict[str, Any], draws: bool) -> None:
    check_generator(HOST.create("generator", f"baseline:{name}", **fields), draws=draws)


@pytest.mark.parametrize("name", ["mean-volume", "nearest-train", "vae-roundtrip", "noise"])
def test_asking_before_preparing_is_an_error(name: str) -> None:
    fields = {"autoencoder": TINY} if name == "vae-roundtrip" else {}
    with pytest.raises(DataError, match="prepare"):
        HOST.create("generator", f"baseline:{name}", **fields).generate(CaseRequest("a", Report("Nodule.")), 0)


@pytest.mark.parametrize("name", ["mean-volume", "nearest-train", "noise"])
def test_no_training_cases_are_an_error(name: str) -> None:
    with pytest.raises(DataError, match="there are none"):
        prepared(name, MemoryCases([]))


def test_the_mean_is_the_mean() -> None:
    train = cases()
    odd = Case("odd", phantom((5, 16, 16)), Report(""))
    generator = prepared("mean-volume", MemoryCases([*train.cases, odd]))
    made = generator.generate(CaseRequest("x", Report("")), 0)
    wanted = np.rint(np.mean([case.volume.hu for case in train.cases], axis=0))
    assert np.array_equal(made.hu, wanted) and np.array_equal(made.affine, train[0].volume.affine)
    assert generator.left_out == ["odd"]


def test_the_nearest_report_wins() -> None:
    train = cases()
    generator = prepared("nearest-train")
    for words, wanted in (("Right effusion, large.", 0), ("A nodule in the upper lobe", 1), ("cardiomegaly", 2)):
        made = generator.generate(CaseRequest("x", Report(words)), 3)
        assert np.array_equal(made.hu, train[wanted].volume.hu), words
    assert generator.nearest(Report("Nodule with pleural effusion, large, right"), 2) == [0, 1]


def test_the_seed_chooses_among_the_nearest() -> None:
    generator = prepared("nearest-train", copies=2)
    near = [cases()[index].volume.hu for index in generator.nearest(Report(REPORTS[0]), 2)]
    made = [generator.generate(CaseRequest("x", Report(REPORTS[0])), seed).hu for seed in range(12)]
    assert {next(i for i, hu in enumerate(near) if np.array_equal(hu, one)) for one in made} == {0, 1}


def test_the_roundtrip_is_the_real_scan_of_that_case() -> None:
    held_out = cases(seed=5)
    generator = prepared("vae-roundtrip", autoencoder=TINY)
    for case in held_out.cases:
        made = generator.generate(CaseRequest(case.id, case.report or Report("")), 0)
        assert np.abs(made.hu.astype(int) - np.clip(case.volume.hu, -1000, 1000)).max() <= 1
    with pytest.raises(DataError, match="no scan of case 'other'"):
        generator.generate(CaseRequest("other", Report("")), 0)


def test_an_autoencoder_without_a_name_is_an_error() -> None:
    with pytest.raises(ConfigError, match="use is missing"):
        HOST.create("generator", "baseline:vae-roundtrip", autoencoder={"channels": 4})


def test_noise_has_the_training_histogram() -> None:
    hu = np.repeat(np.array([-1000, -800, 40, 40], np.int16), 24 * 64).reshape(24, 16, 16)
    train = MemoryCases([Case("a", Volume.canonical(hu, (3.0, 3.0, 3.0)), Report("Nodule."))])
    made = prepared("noise", train).generate(CaseRequest("x", Report("")), 0).hu
    shares = [(made == value).mean() for value in (-1000, -800, 40)]
    assert sum(shares) == 1.0 and np.allclose(shares, (0.25, 0.25, 0.5), atol=0.03)
    # and no order: neighbours are as far apart as any two
    assert np.mean(made[:, :, 1:] == made[:, :, :-1]) < 0.45


def test_slices_and_spacing_are_as_asked() -> None:
    generator = prepared("mean-volume")
    longer = generator.generate(CaseRequest("x", Report(""), slices=9), 0)
    assert longer.shape[0] == 9 and (longer.hu[6:] == -1000).all()
    assert generator.generate(CaseRequest("x", Report(""), slices=4, spacing_mm=(2.5, 4.0, 4.0)), 0).shape == (4, 32, 32)
