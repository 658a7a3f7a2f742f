"""Every command of the README is run by a test; this file says by which, and runs those that nobody else runs."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import numpy as np
import pytest

from ctgen.bench.reading import load_suite
from ctgen.cli import bench
from ctgen.dicom.export_config import DicomExporterConfig
from ctgen.dicom.exporter import DicomExporter
from ctgen.host import Host
from ctgen.testing import phantom
from ctgen.volume import Volume
from ctgen.volume.io import read_volume, write_volume
from tests.e2e.sandbox import Sandbox

REPOSITORY = Path(__file__).parents[2]

RUN_BY = {
    "pip install -r requirements.txt": ".ci/run",
    "ctgen run recipes/ctflow.yaml": "tests/e2e/test_main_job.py::output",
    "pytest": ".ci/run",
    "ctgen generate preset:ctflow"
    ' --report "Large right pleural effusion with passive atelectasis. Cardiomegaly." -o out.nii.gz': (
        "tests/e2e/test_readme.py::test_a_report_becomes_a_volume_with_the_weights_that_ship"
    ),
    'ctgen generate runs/ctflow --report "Small left pleural effusion. The heart is enlarged." -o effusion.nii.gz': (
        "tests/e2e/test_main_job.py::test_generate_from_a_report"
    ),
    "ctgen data check /path/to/CT-RATE -o audit": "tests/e2e/test_readme.py::test_ct_rate_is_checked_and_prepared",
    "ctgen run recipes/ctflow.yaml data.use=ct-rate data.root=/path/to/CT-RATE --run-dir runs/ct-rate": (
        "tests/e2e/test_readme.py::test_ct_rate_is_checked_and_prepared"
    ),
    "ctgen data import /path/to/dicom -o scans": "tests/e2e/test_readme.py::test_dicom_becomes_a_folder_of_scans",
    "ctgen data inspect /path/to/scans": "tests/e2e/test_readme.py::test_own_scans_are_inspected",
    "ctgen run recipes/ctflow.yaml data.use=folder data.root=/path/to/scans --run-dir runs/mine": (
        "tests/e2e/test_main_job.py::test_own_scans"
    ),
    "ctgen validate recipes/ctflow-ct-rate.yaml backbone.attention_transpose=released"
    " backbone.weights=hf:EnyaWoooo/CTFlow/checkpoint-680000/denoiser_ema": (
        "tests/e2e/test_readme.py::test_the_released_weights_fit_the_recipe"
    ),
    "ctgen new-plugin mynet": "tests/e2e/test_docs.py::test_every_command_of_the_first_plugin_guide",
    "pip install -e ctgen-mynet": "tests/e2e/test_docs.py::test_every_command_of_the_first_plugin_guide",
    "ctgen ls backbone": "tests/e2e/test_docs.py::test_every_command_of_the_first_plugin_guide",
    "ctgen evaluate /path/to/generated --reference /path/to/scans -o scores": (
        "tests/e2e/test_readme.py::test_volumes_are_scored"
    ),
    "ctgen bench --models ctflow,baseline": "tests/e2e/test_readme.py::test_models_are_compared",
    "ctgen run recipe.yaml --until encode": "tests/e2e/test_readme.py::test_scaling_out",
    "torchrun --standalone --nproc-per-node 2 -m ctgen run recipe.yaml --from train --until train": (
        "tests/e2e/test_readme.py::test_scaling_out"
    ),
    "ctgen run recipe.yaml": "tests/e2e/test_readme.py::test_scaling_out",
}
"""Command of the README -> the file, or file::test, that runs it."""

SMALL = """
name: small
data: {use: atlas-thorax, cases: 8}
autoencoder: tiny-ae
text_encoder: hash-text
backbone: {use: tiny-conv, width: 8, layers: 1}
schedule: linear-flow
rollout: {use: whole-volume, depth: 8}
objective: latent-flow
prepare: {size: [8, 32, 32], spacing_mm: [36.0, 12.0, 12.0]}
train: {steps: 6, batch: 2, checkpoint_every: 3, log_every: 1}
sample: {count: 1, steps: 2, split: train}
"""


def readme_commands() -> list[str]:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    assert all(language == "sh" for language, _ in blocks)
    return [part.strip() for _, block in blocks for line in block.splitlines() if line for part in line.split(" && ")]


def test_every_command_is_run_by_a_test() -> None:
    assert set(readme_commands()) == set(RUN_BY)
    for command, by in RUN_BY.items():
        file, _, test = by.partition("::")
        path = REPOSITORY / file
        assert path.is_file(), f"{command!r} should be run by {file}, which does not exist"
        assert not test or f"def {test}(" in path.read_text(encoding="utf-8"), f"{file} has no {test}"


def test_ci_installs_and_tests_as_the_readme_says() -> None:
    script = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    assert re.search(r"^pip install .*-r requirements\.txt$", script, re.MULTILINE)
    assert re.search(r"^pytest\b", script, re.MULTILINE)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    return Sandbox(tmp_path_factory.mktemp("readme"))


def test_a_report_becomes_a_volume_with_the_weights_that_ship(sandbox: Sandbox) -> None:
    """One block of 16 slices in two steps; the README's command makes 96 slices in 25."""
    report = "Large right pleural effusion with passive atelectasis. Cardiomegaly."
    done = sandbox.run(f'ctgen generate preset:ctflow --report "{report}" --slices 16 --steps 2 -o out.nii.gz')
    assert "preset:ctflow-mini" in done.stdout + done.stderr
    assert "MINI" in done.stdout + done.stderr
    volume = read_volume(sandbox.folder / "out.nii.gz")
    assert volume.shape == (16, 128, 128)
    assert np.allclose(volume.spacing_mm, 3.0)
    assert volume.hu.std() > 100
    assert (sandbox.folder / "out.png").is_file()


def test_own_scans_are_inspected(sandbox: Sandbox) -> None:
    for index in range(2):
        write_volume(phantom(seed=index), sandbox.folder / "scans" / f"scan-{index}.nii.gz")
    output = sandbox.run("ctgen data inspect scans").stdout
    assert "scan-0" in output
    assert "scan-1" in output


def test_ct_rate_is_checked_and_prepared(sandbox: Sandbox) -> None:
    """To the end of prepare; the stages after it do not know where cases come from."""
    sandbox.run("ctgen data simulate CT-RATE --layout ct-rate --cases 4 --size 36,48,48 --quiet")
    assert "nothing serious" in sandbox.run("ctgen data check CT-RATE -o audit").stdout
    words = "prepare.size=[8,32,32] prepare.spacing_mm=[36,12,12] --until prepare"
    sandbox.run(
        f"ctgen run {REPOSITORY}/recipes/ctflow.yaml data.use=ct-rate data.root=CT-RATE --run-dir runs/ct-rate {words}",
        timeout=600,
    )
    (manifest,) = (sandbox.folder / "runs" / "ct-rate").glob("prepare-*/manifest.json")
    cases = json.loads(manifest.read_text(encoding="utf-8"))["cases"]
    assert len(cases) == 4


def test_dicom_becomes_a_folder_of_scans(sandbox: Sandbox) -> None:
    volume = phantom((24, 32, 32), (5.0, 5.0, 5.0))
    DicomExporter(DicomExporterConfig()).write(volume, sandbox.folder / "dicom" / "made.dicom")
    # The exporter labels its series synthetic, and such series are left out.
    output = sandbox.run("ctgen data import dicom -o imported synthetic=take").stdout
    assert "1 series taken" in output
    assert len(list((sandbox.folder / "imported" / "volumes").iterdir())) == 1


def test_volumes_are_scored(sandbox: Sandbox) -> None:
    """By the protocol that needs no weights, which is the default."""
    for index in range(3):
        real = phantom((24, 48, 48), (8.0, 8.0, 8.0), seed=index)
        write_volume(real, sandbox.folder / "real" / f"case-{index}.nii.gz")
        write_volume(Volume(np.roll(real.hu, 2, axis=1), real.affine), sandbox.folder / "made" / f"case-{index}.nii.gz")
    output = sandbox.run("ctgen evaluate made --reference real -o scores").stdout
    assert "frechet" in output
    assert (sandbox.folder / "scores" / "report.html").is_file()


SMALL_SUITE = """
summary: two small chests
variant: mini
data: {use: atlas-thorax, cases: 2, seed: 90210, valid_fraction: 0}
train: {use: atlas-thorax, cases: 2, seed: 500, valid_fraction: 0}
steps: 1
protocols: [ctgen-mini]
prepare: {size: [32, 64, 64], spacing_mm: [9.0, 6.0, 6.0], workers: 1}
"""


@pytest.mark.slow
def test_models_are_compared(sandbox: Sandbox) -> None:
    """The command's models, weights and protocol, over another suite: the default one, `mini`, takes many minutes. This one
    has 2 cases for 12, a coarser grid and one solver step, so nothing is said here about how good the numbers are.
    """
    (sandbox.folder / "suite.yaml").write_text(SMALL_SUITE, encoding="utf-8")
    output = sandbox.run("ctgen bench --models ctflow,baseline --suite suite.yaml", timeout=600).stdout
    assert "WEIGHTS: MINI" in output
    for name in ("real-real", "vae-ctflow", "preset:ctflow-mini", "preset:baseline-mini", "ctflow - baseline"):
        assert name in output
    report = sandbox.folder / output.strip().splitlines()[-1].removeprefix("report: ")
    assert report == sandbox.folder / "runs" / "bench-suite" / "report.html"
    document = json.loads((report.parent / "results.json").read_text(encoding="utf-8"))
    results = document["protocols"]["ctgen-mini"]["results"]
    assert all(results[name]["values"]["frechet"]["frechet"]["value"] > 0 for name in ("ctflow", "baseline"))


def test_the_default_suite_is_the_one_that_the_readme_speaks_of() -> None:
    suite = load_suite(inspect.signature(bench).parameters["suite"].default, Host.discover())
    assert (suite.name, suite.data.config.cases) == ("mini", 12)  # type: ignore[attr-defined]


def test_the_released_weights_fit_the_recipe(sandbox: Sandbox) -> None:
    command = next(command for command in RUN_BY if "EnyaWoooo" in command)
    sandbox.run(command.replace("recipes/", f"{REPOSITORY}/recipes/"))


@pytest.mark.slow
def test_scaling_out(sandbox: Sandbox) -> None:
    (sandbox.folder / "recipe.yaml").write_text(SMALL, encoding="utf-8")
    sandbox.run("ctgen run recipe.yaml --until encode")
    sandbox.run("torchrun --standalone --nproc-per-node 2 -m ctgen run recipe.yaml --from train --until train")
    output = sandbox.run("ctgen run recipe.yaml")
    run = sandbox.folder / "runs" / "small"
    lines = next(run.glob("train-*/metrics.jsonl")).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4, 5, 6], "two processes, but each step is logged once"
    assert list(run.glob("*/report.html")) or "report" in output.stdout
