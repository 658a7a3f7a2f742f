"""A scanner's series (JPEG 2000, blanked UIDs) in, through the importer, out as DICOM, and in again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk

from ctgen.console import Console
from ctgen.data.dicom_import import ImportOptions, import_tree
from ctgen.dicom.export_config import DicomExporterConfig
from ctgen.dicom.exporter import DicomExporter
from ctgen.volume import Volume
from ctgen.volume.io import read_volume
from ctgen.volume.orient import to_canonical


def slices(folder: Path) -> list[sitk.Image]:
    """By SimpleITK, one by one, in the order of their heights: the oracle."""
    return sorted((sitk.ReadImage(str(path)) for path in folder.iterdir()), key=lambda image: image.GetOrigin()[2])


def test_geometry_and_voxels(real_series):
    volume = read_volume(real_series)
    images = slices(real_series)
    assert np.array_equal(volume.hu, np.concatenate([sitk.GetArrayFromImage(image) for image in images]))
    assert volume.hu.dtype == np.int16
    for index, image in enumerate(images):
        there = (volume.affine @ np.array([index, 0, 0, 1.0]))[:3]
        assert np.abs(there - image.GetOrigin()).max() < 1e-6
    assert np.allclose(volume.spacing_mm, (2.0, *image.GetSpacing()[1::-1]))


def test_the_reduced_copy_lies_in_the_same_place(real_series, shared_folder):
    small = read_volume(shared_folder / "data" / "ct" / "upperabdomenslab_totalseg_dicom20.nii.gz")
    volume = read_volume(real_series)
    blocks = volume.hu.clip(-1024, 2000).astype(float).reshape(20, 256, 2, 256, 2).mean((2, 4))
    assert np.abs(blocks - small.hu).mean() < 1
    # block averages lie half a voxel inwards
    corner = (volume.affine @ np.array([0, 0.5, 0.5, 1]))[:3]
    assert np.abs(corner - small.affine[:3, 3]).max() < 1e-4


def test_round_trip(real_series, tmp_path):
    found = import_tree(real_series, tmp_path / "in", ImportOptions(), Console(quiet=True))
    (record,) = found.taken
    imported = read_volume(tmp_path / "in" / record["file"])
    original = read_volume(real_series)
    path = DicomExporter(DicomExporterConfig()).write(imported, tmp_path / "out.dicom")
    back = read_volume(path)
    assert np.array_equal(back.hu, original.hu)
    assert np.abs(back.affine - to_canonical(original)[0].affine).max() < 1e-4
    source = [pydicom.dcmread(file, stop_before_pixels=True) for file in real_series.iterdir()]
    before = {str(image.file_meta.MediaStorageSOPInstanceUID) for image in source}
    for file in path.iterdir():
        image = pydicom.dcmread(file)
        assert image.SOPInstanceUID not in before
        assert image.FrameOfReferenceUID != source[0].FrameOfReferenceUID
        assert image.ImageType[-1] == "SYNTHETIC"
        assert image.SyntheticData == "YES"
        assert str(image.PatientName) == "SYNTHETIC^CTGEN"
        assert "Basel" not in str(image)
        assert "SIEMENS" not in str(image)


def test_round_trip_through_an_autoencoder(real_series, tmp_path):
    """encode, decode, DICOM out: the geometry of the latent's volume is kept to the last digit that DICOM holds."""
    import torch

    from ctgen.host import Host

    original, _ = to_canonical(read_volume(real_series))
    autoencoder = Host.discover().create("autoencoder", "tiny-ae", cell=8, channels=16)
    with torch.no_grad():
        posterior = autoencoder.encode(torch.from_numpy(original.hu[None, None].astype(np.float32)))
        decoded = autoencoder.decode(autoencoder.finalise(posterior, generator=None))[0, 0].numpy()
    path = DicomExporter(DicomExporterConfig()).write(Volume(decoded, original.affine), tmp_path / "decoded.dicom")
    back = read_volume(path)
    assert np.abs(back.affine - original.affine).max() < 1e-4
    assert np.abs(back.hu - decoded).max() <= 0.5
    assert back.shape == original.shape
