"""A scanner's slices, through the shipped autoencoder, out as DICOM, and in again."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import torch

from ctgen.dicom.export_config import DicomExporterConfig
from ctgen.dicom.exporter import DicomExporter
from ctgen.host import Host
from ctgen.sample.generator import reconstruct
from ctgen.volume import Volume
from ctgen.volume.io import read_volume
from ctgen.volume.orient import to_canonical


def series(volume: Volume, folder):
    return DicomExporter(DicomExporterConfig()).write(volume, folder)


@pytest.mark.parametrize("stored", ["upperabdomenslab_totalseg_dicom20", "chestslab_LIDC-IDRI-0003_c2c"])
def test_import_encode_decode_export_and_read_again(shared_folder, tmp_path, stored):
    scan = read_volume(shared_folder / "data" / "ct" / f"{stored}.nii.gz")
    source = series(Volume(scan.hu[:6], scan.affine), tmp_path / "in.dicom")
    imported = to_canonical(read_volume(source))[0]
    autoencoder = Host.discover().create("autoencoder", "flux-vae", architecture="mini", weights="mini").eval()
    decoded = reconstruct(autoencoder, imported, torch.device("cpu"))
    assert 2 < np.abs(decoded.hu - imported.hu.clip(*autoencoder.hu_range)).mean() < 40
    made = series(decoded, tmp_path / "out.dicom")

    back = read_volume(made)
    assert np.array_equal(back.hu, decoded.hu)
    assert np.abs(back.affine - imported.affine).max() < 1e-4
    image = sitk.ReadImage([str(path) for path in sorted(made.iterdir())])
    assert np.array_equal(sitk.GetArrayFromImage(image), decoded.hu)
    assert np.allclose(image.GetOrigin(), imported.affine[:3, 3], atol=1e-4)

    before = {pydicom.dcmread(path).SOPInstanceUID for path in source.iterdir()}
    for path in made.iterdir():
        header = pydicom.dcmread(path, stop_before_pixels=True)
        assert header.SOPInstanceUID not in before
        assert header.ImageType[-1] == "SYNTHETIC"
        assert header.SeriesDescription.startswith("SYNTHETIC")
