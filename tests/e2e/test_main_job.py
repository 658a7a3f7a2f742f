"""The README's main job, generation and own scans: the same commands and recipe, made small by overrides."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ctgen.testing import phantom
from ctgen.volume.io import read_volume, write_volume
from tests.e2e.sandbox import Sandbox

RECIPES = Path(__file__).parents[2] / "recipes"
SMALL = (
    "prepare.size=[32,64,64] prepare.spacing_mm=[9,6,6] prepare.workers=1 "
    "train.steps=4 train.batch=1 train.checkpoint_every=2 train.log_every=1 "
    "sample.steps=2 sample.count=1 sample.split=train evaluate.count=1"
)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    made = Sandbox(tmp_path_factory.mktemp("main"))
    (made.folder / "recipes").symlink_to(RECIPES)
    return made


@pytest.fixture(scope="module")
def output(sandbox: Sandbox) -> str:
    return sandbox.run(f"ctgen run recipes/ctflow.yaml data.cases=4 {SMALL}", timeout=600).stdout


@pytest.mark.slow
def test_main_job_names_its_report(sandbox: Sandbox, output: str) -> None:
    report = sandbox.folder / output.strip().splitlines()[-1].removeprefix("report: ")
    assert report.name == "report.html"
    text = report.read_text(encoding="utf-8")
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "MINI" in text
    assert "1 of 1 scored cases are TRAINING cases" in text
    volumes = list((sandbox.folder / "runs" / "ctflow").glob("sample-*/**/*.nii.gz"))
    assert len(volumes) == 1
    volume = read_volume(volumes[0])
    assert volume.shape[1:] == (64, 64)
    assert np.allclose(volume.spacing_mm, (9, 6, 6), atol=1e-4)


@pytest.mark.slow
def test_main_job_again_does_nothing(sandbox: Sandbox, output: str) -> None:
    again = sandbox.run(f"ctgen run recipes/ctflow.yaml data.cases=4 {SMALL}")
    assert again.stdout.count("skipped") == 6
    assert again.stdout.strip().splitlines()[-1] == output.strip().splitlines()[-1]


@pytest.mark.slow
def test_generate_from_a_report(sandbox: Sandbox, output: str) -> None:
    report = "Small left pleural effusion. The heart is enlarged."
    sandbox.run(f'ctgen generate runs/ctflow --report "{report}" --slices 20 -o effusion.nii.gz')
    volume = read_volume(sandbox.folder / "effusion.nii.gz")
    assert volume.shape == (20, 64, 64)
    assert volume.hu.std() > 10
    told = json.loads(next(sandbox.folder.glob("effusion*.json")).read_text(encoding="utf-8"))
    assert report in json.dumps(told)


@pytest.mark.slow
def test_own_scans(sandbox: Sandbox) -> None:
    for index in range(3):
        write_volume(phantom((40, 64, 64), (8.0, 6.0, 6.0), seed=index), sandbox.folder / "scans" / f"scan-{index}.nii.gz")
    (sandbox.folder / "scans" / "notes.txt").write_text("not a scan", encoding="utf-8")
    done = sandbox.run(
        f"ctgen run recipes/ctflow.yaml data.use=folder data.root=scans data.default_report=Chest. --run-dir runs/mine {SMALL}",
        timeout=600,
    )
    assert "report.html" in done.stdout.strip().splitlines()[-1]
    assert sorted(path.name for path in (sandbox.folder / "scans").iterdir()) == [
        "notes.txt",
        *(f"scan-{index}.nii.gz" for index in range(3)),
    ]
