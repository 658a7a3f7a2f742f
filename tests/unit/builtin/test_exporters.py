"""Exporters, made through the host as a recipe makes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from ctgen.errors import VolumeError
from ctgen.host import Host
from ctgen.interfaces import Exporter
from ctgen.volume import Volume
from ctgen.volume.io import read_volume


@pytest.fixture(scope="module")
def host() -> Host:
    return Host.discover()


def volume() -> Volume:
    hu = np.random.default_rng(0).uniform(-1000, 1000, (3, 4, 5)).astype(np.float32)
    return Volume.canonical(hu, (3.0, 1.5, 1.25), (-10.0, 20.0, -300.0))


@pytest.mark.parametrize(("name", "suffix"), [("nifti", ".nii.gz"), ("mha", ".mha"), ("nrrd", ".nrrd")])
def test_each_writes_its_format_in_whole_hu(host: Host, tmp_path: Path, name: str, suffix: str) -> None:
    exporter = host.create("exporter", name)
    assert isinstance(exporter, Exporter)
    assert exporter.suffix == suffix
    path = exporter.write(volume(), tmp_path / f"case{suffix}")
    image = sitk.ReadImage(str(path))
    assert image.GetPixelID() == sitk.sitkInt16
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), np.rint(volume().hu))
    np.testing.assert_allclose(image.GetSpacing(), (1.25, 1.5, 3.0))
    np.testing.assert_allclose(image.GetOrigin(), (-10.0, 20.0, -300.0))


def test_float_hu_on_request(host: Host, tmp_path: Path) -> None:
    path = host.create("exporter", "nifti", whole_hu=False).write(volume(), tmp_path / "case.nii.gz")
    np.testing.assert_array_equal(read_volume(path).hu, volume().hu)


def test_the_suffix_is_added_or_must_fit(host: Host, tmp_path: Path) -> None:
    exporter = host.create("exporter", "mha")
    assert exporter.write(volume(), tmp_path / "case.1").name == "case.1.mha"
    with pytest.raises(VolumeError, match=r"writes \.mha, not \.nii\.gz"):
        exporter.write(volume(), tmp_path / "case.nii.gz")


def test_values_that_are_no_numbers_are_refused(host: Host, tmp_path: Path) -> None:
    broken = Volume.canonical(np.full((2, 2, 2), np.nan, np.float32), (1, 1, 1))
    with pytest.raises(VolumeError, match="8 NaN"):
        host.create("exporter", "nifti").write(broken, tmp_path / "v.nii.gz")
