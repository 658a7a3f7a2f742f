"""How well a CT-CLIP of ours matches reports and volumes it has not seen: retrieval among candidates, zero-shot labels.

    python benchmarks/clip_retrieval.py --weights FILE [--cases 256] [--seed 9000] [--candidates 64] [-o FOLDER]

Cases of the simulator with another seed than training's, on its 3 mm grid. Writes clip_retrieval.md and clip_retrieval.json:
top-1 and top-5 of the right report (and of the right volume), AUROC of each of the 18 labels by the prompts, and the same with
reports shuffled, which must be chance.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ctgen_ctflow.ct_clip import PROMPTS, CtClip

from ctgen.atomic import write_json, write_text
from ctgen.console import Console
from ctgen.data.atlas.config import AtlasThoraxConfig
from ctgen.data.atlas.dataset import SIMULATOR, AtlasThorax
from ctgen.data.labels import LABELS
from ctgen.evaluate.retrieval import auroc, retrieved


def measure(model: CtClip, cases: int, seed: int, candidates: int, console: Console) -> dict[str, Any]:
    dataset = AtlasThorax(AtlasThoraxConfig(cases=cases, seed=seed))
    images, texts, labels = [], [], []
    began = time.monotonic()
    for index in console.track(range(cases), "cases", unit="cases"):
        case = dataset[index]
        assert case.report is not None
        assert case.labels is not None
        images.append(model.encode_image(model.prepare(case.volume)[None]))
        texts.append(model.encode_reports([case.report]))
        labels.append([case.labels[label] for label in LABELS])
    image, text, truth = torch.cat(images), torch.cat(texts), np.array(labels)
    similar = (image @ text.T).numpy()
    present, absent = (model.encode_text([prompt.format(label) for label in LABELS]) for prompt in PROMPTS)
    scores = (image @ (present - absent).T).numpy()
    said = (text @ (present - absent).T).numpy()
    order = np.roll(np.arange(cases), 1)
    by_label = {label: auroc(scores[:, place], truth[:, place]) for place, label in enumerate(LABELS)}
    return {
        "cases": cases,
        "seed": seed,
        "simulator": SIMULATOR,
        "candidates": candidates,
        "weights": {"label": model.weights.label, "sha256": model.weights.sha256},
        "retrieval_top1": retrieved(similar, candidates),
        "retrieval_top5": retrieved(similar, candidates, top=5),
        "volume_retrieval_top1": retrieved(similar.T, candidates),
        "shuffled_top1": retrieved(similar[:, order], candidates),
        "chance": 1 / min(candidates, cases),
        "auroc_mean": _mean(by_label),
        "auroc": by_label,
        "report_auroc_mean": _mean({label: auroc(said[:, place], truth[:, place]) for place, label in enumerate(LABELS)}),
        "shuffled_auroc_mean": _mean(
            {label: auroc(scores[:, place], truth[order, place]) for place, label in enumerate(LABELS)}
        ),
        "cut_reports": model.counts.cut,
        "seconds": round(time.monotonic() - began, 1),
    }


def _mean(values: dict[str, float]) -> float:
    measured = [value for value in values.values() if math.isfinite(value)]
    return sum(measured) / len(measured) if measured else math.nan


def page(found: dict[str, Any]) -> str:
    heads = {
        "retrieval_top1": f"right report first of {found['candidates']}",
        "retrieval_top5": "right report among the first 5",
        "volume_retrieval_top1": "right volume first",
        "shuffled_top1": "with shuffled reports",
        "chance": "chance",
        "auroc_mean": "zero-shot AUROC of volumes, mean of labels",
        "report_auroc_mean": "zero-shot AUROC of reports, mean of labels",
        "shuffled_auroc_mean": "AUROC with shuffled labels",
    }
    scores = [[name, f"{found[key]:.3f}"] for key, name in heads.items()]
    labels = [[name, f"{value:.3f}"] for name, value in found["auroc"].items()]
    weights = f"{found['weights']['label']} weights, SHA-256 `{found['weights']['sha256'][:16]}`"
    facts = f"{found['cases']} simulated cases of seed {found['seed']} (simulator {found['simulator']}); {weights}."
    return "\n".join(
        [
            "# Mini CT-CLIP: reports and volumes",
            "",
            facts,
            "",
            *_markdown(["score", ""], scores),
            "",
            *_markdown(["label", "AUROC"], labels),
            "",
        ]
    )


def _markdown(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True, help="weights file of both towers")
    parser.add_argument("--vocabulary", default="mini")
    parser.add_argument("--cases", type=int, default=256)
    parser.add_argument("--seed", type=int, default=9000)
    parser.add_argument("--candidates", type=int, default=64)
    parser.add_argument("-o", "--out", type=Path, default=None, help="folder for the results; without it they are shown alone")
    options = parser.parse_args()
    console = Console()
    model = CtClip.load(options.weights, vocabulary=options.vocabulary)
    found = measure(model, options.cases, options.seed, options.candidates, console)
    text = page(found)
    print(text)
    if options.out is not None:
        write_text(options.out / "clip_retrieval.md", text)
        write_json(options.out / "clip_retrieval.json", found)


if __name__ == "__main__":
    main()
