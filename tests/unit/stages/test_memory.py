"""Memory in multiples of a scan's int16 voxels: no float copy of a whole volume, however it is stored."""

from __future__ import annotations

import tracemalloc

import nibabel
import numpy as np
import pytest
import torch

from ctgen.host import Host
from ctgen.interfaces import Case
from ctgen.recipe.settings import PrepareSettings
from ctgen.stages.encode import encode_slices
from ctgen.stages.prepare import prepare_case
from ctgen.testing import phantom
from ctgen.volume import Volume
from ctgen.volume.io import read_volume, write_volume

SHAPE = (160, 256, 256)
VOXELS = 2 * np.prod(SHAPE)


def peak(work):
    """Largest allocation by numpy while ``work`` runs, in multiples of the int16 volume; torch's is not seen."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / VOXELS
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """The same scan as int16 with turned axes, as scaled float64 and as MetaImage."""
    root = tmp_path_factory.mktemp("memory")
    small = phantom((20, 64, 64), (16.0, 6.0, 6.0), seed=1)
    hu = small.hu.repeat(8, 0).repeat(4, 1).repeat(4, 2)
    affine = small.affine @ np.diag([1 / 8, -1 / 4, -1 / 4, 1])
    write_volume(Volume(hu, affine), root / "turned.nii.gz")
    write_volume(Volume(hu, affine), root / "turned.mha")
    image = nibabel.Nifti1Image(hu.transpose(2, 1, 0).astype(np.float64), np.diag([1.5, 1.5, 2, 1]))
    image.header.set_slope_inter(1.0, 0.25)
    nibabel.save(image, root / "float64.nii.gz")
    return root


@pytest.mark.parametrize(("name", "most"), [("turned.nii.gz", 1.4), ("float64.nii.gz", 3.6), ("turned.mha", 1.4)])
def test_reading_a_scan(scans, name, most):
    """float32 is twice int16; a scan that may still be either holds both for a moment."""
    assert peak(lambda: read_volume(scans / name)) < most


@pytest.mark.parametrize(
    ("settings", "most"),
    [
        (PrepareSettings(size=(96, 128, 128), spacing_mm=(3, 3, 3), min_lung_fraction=0), 2.7),
        (PrepareSettings(size=SHAPE, spacing_mm="keep", min_lung_fraction=0), 2.7),
    ],
)
def test_preparing_a_scan(scans, tmp_path, settings, most):
    """The scan, and what is made of it: at 3 mm a third of its voxels, twice in float32 while D is resampled."""
    assert peak(lambda: prepare_case(Case("a", read_volume(scans / "turned.nii.gz")), settings, tmp_path)) < most


def test_encoding_reads_a_prepared_volume_slice_by_slice(tmp_path):
    np.save(tmp_path / "case.npy", np.zeros(SHAPE, np.int16))
    codec = Host.discover().create("autoencoder", "tiny-ae", cell=8, channels=1)
    array = np.load(tmp_path / "case.npy", mmap_mode="r")
    assert peak(lambda: encode_slices(codec, array, 8, torch.device("cpu"))) < 0.3
