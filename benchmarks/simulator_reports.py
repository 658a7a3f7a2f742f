"""What the reports of ``atlas-thorax`` are like: ``python benchmarks/simulator_reports.py [--cases 1000] [--vocabulary FILE]``.

Counts distinct findings sections, word pieces per section (those of BERT's splitting if no vocabulary is given: words,
numbers and punctuation marks), and reports from which the parser reads all 18 labels exactly, into
``results/simulator_reports.md``. Cases are made at 12 mm, as only their facts and reports are read; 0.1 s each.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import contextlib
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ctgen.atomic import write_text
from ctgen.data.atlas.config import AtlasThoraxConfig
from ctgen.data.atlas.dataset import SIMULATOR, AtlasThorax
from ctgen.data.atlas.reports.parser import parse


def counter_of(vocabulary: str | None) -> Callable[[str], int]:
    """Word pieces of a text."""
    if vocabulary is None:
        return lambda text: len(re.findall(r"\w+|[^\w\s]", text))
    from tokenizers import BertWordPieceTokenizer

    words = BertWordPieceTokenizer(vocabulary, lowercase=True)
    return lambda text: len(words.encode(text, add_special_tokens=False).ids)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=21)
    parser.add_argument("--prevalence", default="realistic", help="a number, or realistic")
    parser.add_argument("--vocabulary", help="a vocab.txt")
    parser.add_argument("-o", "--out", type=Path, default=Path(__file__).parent / "results")
    given = parser.parse_args()
    share = given.prevalence if given.prevalence == "realistic" else float(given.prevalence)
    data = AtlasThorax(
        AtlasThoraxConfig(
            cases=given.cases, seed=given.seed, size=(24, 32, 32), spacing_mm=(12.0, 12.0, 12.0), prevalence=share
        )
    )
    count = counter_of(given.vocabulary)
    texts, pieces, whole, exact, labels = [], [], [], 0, Counter[str]()
    for index in range(given.cases):
        case = data[index]
        assert case.report is not None and case.labels is not None
        texts.append(case.report.findings)
        pieces.append(count(case.report.findings))
        whole.append(pieces[-1] + count(case.report.impressions))
        with contextlib.suppress(ValueError):
            exact += parse(case.report) == dict(case.labels)
        labels.update(name for name, value in case.labels.items() if value)
    vocabulary = f"of `{Path(given.vocabulary).parent.name}/vocab.txt`" if given.vocabulary else "of BERT's splitting"
    lines = [
        "# Reports",
        "",
        f"{given.cases} cases, prevalence {given.prevalence}, seed {given.seed}, simulator {SIMULATOR}. "
        f"Word pieces {vocabulary}.",
        "",
        "| | |",
        "|---|---|",
        f"| distinct findings sections | {len(set(texts))} |",
        f"| labels read back exactly by the parser, cases | {exact} |",
        f"| word pieces of findings | {spread(pieces)} |",
        f"| word pieces of findings and impressions | {spread(whole)} |",
        "",
        "| label | share |",
        "|---|---|",
        *(f"| {name} | {hits / given.cases:.3f} |" for name, hits in labels.most_common()),
    ]
    write_text(given.out / "simulator_reports.md", "\n".join(lines) + "\n")
    print("\n".join(lines))


def spread(counts: list[int]) -> str:
    low, middle, high = np.quantile(counts, [0.05, 0.5, 0.95])
    return f"median {middle:.0f}, 5 to 95 % {low:.0f} to {high:.0f}, longest {max(counts)}"


if __name__ == "__main__":
    main()
