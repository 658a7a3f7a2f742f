"""Do labels of ``atlas-thorax`` hang together with what should not matter?

    python benchmarks/simulator_nuisances.py [--cases 1000] [--prevalence 0.35] [-o benchmarks/results]

AUROC of every nuisance (length of the report, noise, contrast, kernel, couch, circle, motion, slice thickness, size of the
patient) for every label, and of all nuisances together in a logistic regression on the other half of the cases. 0.5: none.
Reports and facts follow from painted volumes, which are made at 12 mm.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import platform
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import rankdata

from ctgen.atomic import write_text
from ctgen.data.atlas.config import AtlasThoraxConfig
from ctgen.data.atlas.dataset import SIMULATOR, AtlasThorax
from ctgen.data.atlas.reports.parser import sentences
from ctgen.data.labels import LABELS


def auroc(score: np.ndarray, label: np.ndarray) -> float:
    ranks, positive = rankdata(score), label.sum()
    if positive in (0, len(label)):
        return float("nan")
    return float((ranks[label > 0].sum() - positive * (positive + 1) / 2) / positive / (len(label) - positive))


def one(config: AtlasThoraxConfig, index: int) -> tuple[dict[str, float], list[int]]:
    case = AtlasThorax(config)[index]
    assert case.report is not None and case.labels is not None
    patient, scanner = case.meta["patient"], case.meta["scanner"]
    nuisances: dict[str, Any] = {
        "words of findings": len(case.report.findings.split()),
        "words of impressions": len(case.report.impressions.split()),
        "sentences of findings": len(sentences(case.report.findings)),
        "sentences of impressions": len(sentences(case.report.impressions)),
        "words of technique": len(case.report.technique.split()),
        "words of clinical information": len(case.report.clinical_information.split()),
        "noise": scanner["noise_hu"],
        "grain": scanner["grain"],
        "contrast": scanner["contrast"],
        "sharp kernel": scanner["kernel"] == "sharp",
        "couch": scanner["couch"] != "none",
        "circle": scanner["circle"],
        "motion": scanner["motion_mm"],
        "slice thickness": scanner["slice_mm"],
        "width": patient["width"],
        "height": patient["height"],
        "fat": patient["fat"],
        "shift": patient["shift_mm"][0],
        "age": patient["age"],
        "sex": patient["sex"] == "female",
    }
    return {name: float(value) for name, value in nuisances.items()}, [case.labels[label] for label in LABELS]


def together(features: np.ndarray, label: np.ndarray) -> float:
    """AUROC on the second half of a ridge logistic regression fitted on the first."""
    half = len(label) // 2
    scaled = (features - features[:half].mean(0)) / (features[:half].std(0) + 1e-9)
    inputs = np.c_[scaled, np.ones(len(scaled))]
    sign = 2 * label[:half] - 1

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (inputs[:half] @ weights)
        slope = -(sign * expit(-margin)) @ inputs[:half] / half + 0.01 * weights
        return float(np.logaddexp(0, -margin).mean() + 0.005 * weights @ weights), slope

    return auroc(inputs[half:] @ minimize(loss, np.zeros(inputs.shape[1]), jac=True).x, label[half:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--prevalence", default="0.35")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("-o", "--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    config = AtlasThoraxConfig.model_validate(
        {
            "cases": arguments.cases,
            "seed": 77,
            "size": (24, 32, 32),
            "spacing_mm": (12, 12, 12),
            "prevalence": arguments.prevalence,
        }
    )
    made = Parallel(arguments.workers)(delayed(one)(config, index) for index in range(arguments.cases))
    names = list(made[0][0])
    features = np.array([[row[name] for name in names] for row, _ in made])
    labels = np.array([row for _, row in made])
    table = np.array(
        [[auroc(features[:, column], labels[:, place]) for place in range(len(LABELS))] for column in range(len(names))]
    )
    joint = [together(features, labels[:, place]) for place in range(len(LABELS))]
    error = 0.5 / np.sqrt(3 * len(labels) * 0.3 * 0.7)
    lines = [
        "# Labels and what should not matter",
        "",
        f"{arguments.cases} cases, prevalence {arguments.prevalence}; AUROC of each nuisance over the 18 labels. A standard "
        f"error is about {error:.3f}. Simulator {SIMULATOR}, Python {platform.python_version()}.",
        "",
        "| nuisance | lowest | mean | highest | label of the one farthest from 0.5 |",
        "|---|---|---|---|---|",
    ]
    for name, row in [*zip(names, table, strict=True), ("all together, held-out half", np.array(joint))]:
        far = int(np.nanargmax(np.abs(row - 0.5)))
        lines.append(f"| {name} | {np.nanmin(row):.3f} | {np.nanmean(row):.3f} | {np.nanmax(row):.3f} | {LABELS[far]} |")
    write_text(arguments.out / "simulator_nuisances.md", "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
