"""Simulated copies of CT-RATE: their layout, what is in them, resuming."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ctgen.data.ct_rate.config import CtRateConfig
from ctgen.data.ct_rate.dataset import CtRate
from ctgen.data.ct_rate.findings import KINDS
from ctgen.data.ct_rate.layout import COLUMNS, SPLITS, TABLES
from ctgen.data.ct_rate.plan import CORRUPT, plan
from ctgen.data.ct_rate.simulate import simulate_ct_rate
from ctgen.errors import ConfigError, DataError
from ctgen.testing import check_dataset
from ctgen.volume.io import read_volume

from .conftest import CONFIG, SCANS

Made = Callable[..., Path]


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream))


def test_a_plan_is_a_copy_of_ct_rate() -> None:
    made = plan(400, 0, "fixed").volumes
    scans = Counter(one.scan for one in made)
    assert len(scans) == 400
    assert set(scans.values()) == {1, 2}
    assert 0.85 < sum(count == 2 for count in scans.values()) / 400 < 0.95
    assert len({one.path("fixed") for one in made}) == len(made)
    patients = {one.patient: {other.scan for other in made if other.patient == one.patient} for one in made}
    assert 20 < sum(len(found) == 2 for found in patients.values()) < 100
    assert {one.side for one in made} == {"train", "valid"}
    assert all(one.name.startswith(one.side) for one in made)
    # a longer plan begins with the shorter one
    assert plan(100, 0, "fixed").volumes == made[: len(plan(100, 0, "fixed").volumes)]


def test_every_trap_is_planted_once_per_hundred_scans() -> None:
    for kind, other in (("fixed", "hu-in-raw"), ("raw", "raw-in-fixed")):
        found = Counter(one.kind for one in plan(220, 0, kind, damage=True).planted)  # type: ignore[arg-type]
        unplanted = {"missing-table", "missing-columns", "no-label-row", "no-metadata-row", "reports-differ"}
        unplanted |= {"geometry-lost", "bad-row", "short", other}
        assert set(found) == set(KINDS) - unplanted
        assert found["unreadable"] == 2 * len(CORRUPT)
        assert found["hu-twice"] == 2
    with pytest.raises(ConfigError, match="--damage needs 21 train scans"):
        plan(12, 0, "fixed", damage=True)


@pytest.mark.parametrize("kind", ["fixed", "raw"])
def test_headers_names_and_rows_are_ct_rates(simulated: Made, kind: str) -> None:
    base = simulated(kind, damage=False) / "dataset"
    suffix = "_fixed" if kind == "fixed" else ""
    assert {path.name for path in base.iterdir() if path.name.startswith(("train", "valid"))} == {
        f"train{suffix}",
        f"valid{suffix}",
    }
    for split in SPLITS:
        names = {path.name for path in (base / f"{split}{suffix}").rglob("*.nii.gz")}
        for table, columns in COLUMNS.items():
            found = rows(base / TABLES[table][split])
            assert tuple(found[0]) == columns
            assert {row[0] for row in found[1:]} == names
    (path,) = (base / f"train{suffix}/train_1/train_1_a").glob("train_1_a_1.nii.gz")
    first = dict(zip(COLUMNS["metadata"], rows(base / TABLES["metadata"]["train"])[1], strict=True))
    assert first["XYSpacing"] == "[11.0, 11.0]"
    assert first["PatientAge"].endswith("Y") and len(first["PatientAge"]) == 4
    assert first["RescaleIntercept"] in ("-1024", "-8192")
    assert (first["NumberofSlices"], first["Rows"]) == ("24", "32")
    stored = read_volume(path)
    assert stored.spacing_mm == (pytest.approx((12.0, 11.0, 11.0)) if kind == "fixed" else (1.0, 1.0, 1.0))


def test_raw_and_fixed_hold_the_same_scans(simulated: Made) -> None:
    fixed, raw = (CtRate(CtRateConfig(root=simulated(kind, damage=False), reconstruction="all")) for kind in ("fixed", "raw"))
    assert fixed.ids == raw.ids
    decisions = set()
    for index in range(0, len(fixed), 7):
        one, other = fixed[index], raw[index]
        assert np.array_equal(one.volume.hu, other.volume.hu)
        assert np.allclose(one.volume.affine, other.volume.affine, atol=1e-3)
        assert (one.report, one.labels, one.split) == (other.report, other.labels, other.split)
        decisions.add((one.meta["intensity"]["decision"], other.meta["intensity"]["decision"]))
    assert decisions == {("hu", "csv-rescale")}
    check_dataset(raw)


def test_reports_and_labels_are_the_simulators(simulated: Made) -> None:
    root = simulated("fixed", damage=False)
    record = json.loads((root / "cases" / "00003.json").read_text())
    found = CtRate(CtRateConfig(root=root))
    case = found[found.ids.index(f"{record['scan']}_1")]
    assert case.report is not None
    assert case.report.findings == record["report"]["findings"]
    assert case.labels == record["labels"]
    assert case.meta["age_years"] == record["meta"]["patient"]["age"]


def test_an_interrupted_call_goes_on_and_gives_the_same_bytes(tmp_path: Path) -> None:
    out = simulate_ct_rate(tmp_path / "a", 6, 3, kind="raw", config=CONFIG)
    before = files(out)
    scan = json.loads((out / "cases" / "00004.json").read_text())["scan"]
    (out / "cases" / "00004.json").unlink()
    (out / "dataset" / "train" / scan.rpartition("_")[0] / scan / f"{scan}_1.nii.gz").unlink()
    (out / "planted.json").unlink()
    assert files(simulate_ct_rate(out, 6, 3, kind="raw", config=CONFIG)) == before
    longer = files(simulate_ct_rate(out, 9, 3, kind="raw", config=CONFIG))
    volumes = {name: data for name, data in before.items() if name.endswith(".nii.gz")}
    assert {name: longer[name] for name in volumes} == volumes
    assert (out / "dataset" / "valid").is_dir()
    with pytest.raises(DataError, match="another seed, config or simulator version"):
        simulate_ct_rate(out, 6, 3, kind="fixed", config=CONFIG)


def test_planted_traps_are_listed_with_their_place(simulated: Made) -> None:
    root = simulated("fixed", damage=True)
    listed = json.loads((root / "planted.json").read_text())
    assert listed["scans"] == SCANS
    for trap in listed["planted"]:
        assert set(trap) == {"kind", "subject", "how"}
        assert trap["kind"] in KINDS
        if "/" in trap["subject"]:
            assert (root / "dataset" / trap["subject"]).is_file()
