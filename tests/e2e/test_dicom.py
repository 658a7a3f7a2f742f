"""The installed program on DICOM: import, inspect, kill in between, and a recipe from DICOM to DICOM."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pydicom
import pytest

from ctgen.atomic import read_json, sha256_of
from ctgen.dicom.export_config import DicomExporterConfig
from ctgen.dicom.exporter import DicomExporter
from ctgen.testing import phantom
from ctgen.volume.io import read_volume

PROGRAM = [sys.executable, "-c", "from ctgen.cli import main; main()"]
RECIPE = """
name: dicom
data: {use: dicom, root: SCANS, default_report: "Normal chest.", valid_fraction: 0.4, reports: REPORTS}
prepare: {size: [8, 16, 16], spacing_mm: [20, 20, 20], min_depth_mm: 100}
autoencoder: {use: tiny-ae, cell: 8, channels: 4}
text_encoder: {use: hash-text, width: 8, max_tokens: 16}
backbone: {use: tiny-conv, width: 4, layers: 1}
schedule: linear-flow
rollout: whole-volume
objective: latent-flow
train: {steps: 2, lr: 1e-3, batch: 2, warmup_steps: 0}
sample: {steps: 2, count: 1}
export: {use: dicom, study_date: "20250101"}
metrics: [hu-histogram]
report: {slices: 2}
"""


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def ctgen(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [*PROGRAM, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment(), timeout=240, check=False)


@pytest.fixture
def scans(tmp_path):
    """Four patients, a series each."""
    exporter = DicomExporter(DicomExporterConfig())
    for index in range(4):
        exporter.write(phantom((16, 32, 32), (10.0, 10.0, 10.0), seed=index), tmp_path / "pacs" / f"p{index}" / "s.dicom")
    (tmp_path / "pacs" / "DICOMDIR.txt").write_text("x")
    for index in range(4):
        for file in (tmp_path / "pacs" / f"p{index}").rglob("*.dcm"):
            image = pydicom.dcmread(file)
            image.PatientID, image.ImageType = f"PAT-{index}", ["ORIGINAL", "PRIMARY", "AXIAL"]
            del image.SyntheticData
            image.save_as(file)
    return tmp_path / "pacs"


def test_import_and_inspect(scans, tmp_path):
    dry = ctgen("data", "import", scans, "-o", "out", "--dry-run", cwd=tmp_path)
    assert dry.returncode == 0, dry.stderr
    assert dry.stdout.count("take      ct-") == 4
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.ctgen-private").exists()
    done = ctgen("data", "import", scans, "-o", "out", "min_slices=5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "4 series taken, 0 left out; 65 files" in done.stdout
    assert "out.ctgen-private" in done.stdout
    shown = ctgen("data", "inspect", scans / "p0", cwd=tmp_path)
    assert "32 x 32 x 16 (x, y, z)" in shown.stdout
    assert "DICOM, int16" in shown.stdout
    wrong = ctgen("data", "import", scans, "-o", "other", "gaps=guess", cwd=tmp_path)
    assert wrong.returncode != 0
    assert "gaps" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_kill_during_import(scans, tmp_path):
    whole = ctgen("data", "import", scans, "-o", "whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    wanted = {path.name: sha256_of(path) for path in (tmp_path / "whole").rglob("*") if path.is_file()}
    words = [*PROGRAM, "data", "import", str(scans), "-o", "out"]
    process = subprocess.Popen(words, cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not list((tmp_path / "out" / "records").glob("*.json")) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = ctgen("data", "import", scans, "-o", "out", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    out = tmp_path / "out"
    found = {path.name: sha256_of(path) for path in out.rglob("*") if path.is_file() and ".writing-" not in str(path)}
    assert found == wanted


def test_a_recipe_from_dicom_to_dicom(scans, tmp_path):
    (tmp_path / "reports.csv").write_text("PatientID,findings\nPAT-0,A nodule.\nPAT-1,Effusion.\nPAT-2,Cyst.\nPAT-3,Scar.\n")
    text = RECIPE.replace("SCANS", str(scans)).replace("REPORTS", str(tmp_path / "reports.csv"))
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    done = ctgen("run", "recipe.yaml", "--run-dir", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "run").glob("sample-*/*.dicom")
    images = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    told = read_json(folder.with_suffix(".json"))
    assert told["sha256"] == sha256_of(folder)
    volume = read_volume(folder)
    assert list(volume.shape) == told["shape"]
    assert np.allclose(volume.spacing_mm, 20)
    assert images[0].StudyDate == "20250101"
    assert images[0].ImageComments == f"FINDINGS: {told['report']['findings']}"
    assert images[0].PatientID == f"CTGEN-{told['id']}"
    assert images[0].SeriesDescription == "SYNTHETIC ctgen dicom"
    assert f"Recipe dicom ({told['provenance']['recipe_hash']})" in images[0].DerivationDescription
    again = ctgen("data", "import", folder, "-o", "again", "min_slices=4", "--dry-run", cwd=tmp_path)
    assert "it is labelled synthetic (synthetic = leave-out)" in again.stdout
    assert "0 series would be taken, 1 left out" in again.stdout
    named = [path for path in (tmp_path / "run").rglob("*.json") if "PAT-" in path.read_text(encoding="utf-8")]
    assert named == []
