"""A picture of every finding of ``atlas-thorax``: ``python benchmarks/simulator_contact_sheet.py sheet.png``.

A row per finding: axial and the best other plane, each in lung (dense things: bone) and soft-tissue window, with and without
it, cut where its mask is largest. Of ten cases the one with the third largest mask is shown.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ctgen.data.atlas.added_labels import OUTSIDE
from ctgen.data.atlas.config import FINDINGS, AtlasThoraxConfig, FindingName
from ctgen.data.atlas.facts import listed
from ctgen.data.atlas.findings.scene import box_of
from ctgen.data.atlas.scan import simulate

WINDOWS = {"lung": (-1350.0, 150.0), "soft": (-160.0, 240.0)}
DENSE_WINDOWS = {"bone": (-450.0, 1250.0), "soft": (-160.0, 240.0)}
DENSE = {"medical_material", "arterial_wall_calcification", "coronary_artery_wall_calcification"}
"""Metal and calcium: brighter than both windows of the others."""
OF = 10
PLANES = ("axial", "coronal", "sagittal")


def well_shown(name: FindingName, seed: int, skip: int) -> int:
    """The index of the case with the third largest mask of ``OF`` cases: easy to see, not the extreme; ``skip`` passes over."""
    rough = AtlasThoraxConfig(size=(64, 84, 84), spacing_mm=(4.5, 4.5, 4.5))
    sizes = {}
    for index in range(skip, skip + OF):
        case = simulate(seed, index, rough, present={**dict.fromkeys(FINDINGS, False), name: True}, with_masks=True)
        if case.masks is not None and name in case.findings:
            sizes[index] = int(case.masks[name].sum())
    if not sizes:
        raise SystemExit(f"{name} does not show in cases {skip} ... {skip + OF - 1} of seed {seed}")
    return sorted(sizes, key=lambda index: -sizes[index])[min(2, len(sizes) - 1)]


def panels(name: FindingName, seed: int, index: int, config: AtlasThoraxConfig) -> tuple[list[tuple[str, np.ndarray]], str]:
    """Titled images in 0 ... 1, and what the facts say."""
    none = dict.fromkeys(FINDINGS, False)
    ill = simulate(seed, index, config, present={**none, name: True}, with_masks=True)
    well = simulate(seed, index, config, present=none)
    assert ill.masks is not None
    mask = ill.masks[name]
    cuts = [int(mask.sum(tuple(other for other in range(3) if other != axis)).argmax()) for axis in range(3)]
    areas = [mask.take(cut, axis).sum() for axis, cut in enumerate(cuts)]
    other = 1 if areas[1] >= areas[2] else 2
    assert ill.labels is not None
    body = box_of((ill.labels > 0) & (ill.labels != OUTSIDE), 3)
    assert body is not None
    out = []
    for axis in (0, other):
        for window, (low, high) in (DENSE_WINDOWS if name in DENSE else WINDOWS).items():
            for case, word in ((ill, "with"), (well, "without")):
                part = tuple(slice(cuts[axis], cuts[axis] + 1) if axis == each else body[each] for each in range(3))
                cut = case.volume.hu[part].squeeze(axis).astype(float)
                image = np.clip((cut - low) / (high - low), 0, 1)
                out.append((f"{PLANES[axis]}, {window}, {word}", image[::-1] if axis else image))
    skipped = {"name", "label"}
    facts = "; ".join(", ".join(f"{k} {v}" for k, v in row.items() if k not in skipped) for row in listed(ill.findings))
    return out, facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--findings", nargs="+", default=FINDINGS, choices=FINDINGS, metavar="NAME")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--skip", type=int, default=0, help="cases to pass over: other examples of the same findings")
    parser.add_argument("--spacing", type=float, default=1.5, help="mm")
    parser.add_argument("--contrast", type=float, default=0.55, help="fraction of scans with contrast")
    given = parser.parse_args()
    step = given.spacing
    size = (int(280 / step), int(300 / step), int(390 / step))
    config = AtlasThoraxConfig(size=size, spacing_mm=(step, step, step), contrast=given.contrast, noise_hu=(6.0, 12.0))
    rows = [(name, *panels(name, given.seed, well_shown(name, given.seed, given.skip), config)) for name in given.findings]
    figure = Figure(figsize=(8 * 2.5, len(rows) * 2.3), facecolor="black")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), 8, squeeze=False)
    figure.subplots_adjust(0, 0, 1, 1 - 0.35 / (2.3 * len(rows)), 0.02, 0.2)
    for line, (name, images, facts) in zip(axes, rows, strict=True):
        for place, (title, image) in zip(line, images, strict=True):
            place.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="bilinear")
            place.set_title(title, color="white", fontsize=7, pad=2)
            place.axis("off")
        words = f"{name.replace('_', ' ').upper()}: {facts}"
        line[0].text(0, 1.1, words, color="yellow", fontsize=6, va="bottom", transform=line[0].transAxes)
    figure.savefig(given.out, dpi=100)
    print(given.out)


if __name__ == "__main__":
    main()
