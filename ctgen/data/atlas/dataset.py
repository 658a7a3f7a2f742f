"""The data set ``atlas-thorax``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property

from ctgen.data.atlas.config import AtlasThoraxConfig
from ctgen.data.atlas.draws import stream
from ctgen.data.atlas.facts import labels_of, listed, masks_of
from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.reports.compose import write_report
from ctgen.data.atlas.scan import Simulated, simulate
from ctgen.errors import ConfigError
from ctgen.interfaces import Case, Origin, Skipped, Split

SIMULATOR = 4
"""Raise with every change that changes a case."""


def split_of(index: int, valid_fraction: float) -> Split:
    """Every 1 / ``valid_fraction``-th case is for validation: the share is right for any number of cases, and no case moves."""
    before, after = int(index * valid_fraction + 1e-9), int((index + 1) * valid_fraction + 1e-9)
    return "valid" if after > before else "train"


def case_from(simulated: Simulated, seed: int, index: int, config: AtlasThoraxConfig) -> Case:
    """Volume, report, labels, facts and masks of what ``simulate`` made for (seed, index)."""
    rows = listed(simulated.findings)
    report = write_report(
        rows,
        patient=simulated.patient,
        scanner=simulated.scanner,
        ratio=simulated.cardiothoracic_ratio,
        slice_mm=round(simulated.scanner.slice_mm, 1),
        speaker=Speaker(stream(seed, index, "report")),
        kinds=config.kinds,
    )
    meta = {
        "source": "LIDC-IDRI-0001, simulated",
        "simulator": SIMULATOR,
        "seed": seed,
        "index": index,
        "findings": rows,
        "cardiothoracic_ratio": None if simulated.cardiothoracic_ratio is None else round(simulated.cardiothoracic_ratio, 3),
        "patient": asdict(simulated.patient),
        "scanner": asdict(simulated.scanner),
    }
    name, labels = f"atlas-{seed}-{index:05d}", labels_of(rows)
    masks = None if simulated.masks is None else masks_of(simulated.masks, labels)
    return Case(name, simulated.volume, report, labels, split_of(index, config.valid_fraction), meta, masks)


class AtlasThorax:
    """Cases are made on access, each from (seed, index) alone, equal in every process; nothing is cached.

    Raises ConfigError for a scan longer than the atlas.
    """

    skipped: Sequence[Skipped] = ()

    def __init__(self, config: AtlasThoraxConfig) -> None:
        for field, message in config.check():
            raise ConfigError(f"atlas-thorax: {field}: {message}", hint="take fewer slices or a smaller spacing along D")
        self.config = config

    @cached_property
    def ids(self) -> Sequence[str]:
        return tuple(f"atlas-{self.config.seed}-{index:05d}" for index in range(self.config.cases))

    def __len__(self) -> int:
        return self.config.cases

    def __getitem__(self, index: int) -> Case:
        """int16 HU, canonical, of ``size`` and ``spacing_mm``; raises IndexError beyond ``cases``."""
        index = range(self.config.cases)[index]
        simulated = simulate(self.config.seed, index, self.config, with_masks=self.config.masks)
        return case_from(simulated, self.config.seed, index, self.config)

    def origin(self, index: int) -> Origin:
        """No file: the seed, the index and the config decide a case, and its number of cases does not."""
        fields = {name: value for name, value in self.config.identity().items() if name != "cases"}
        return Origin((), {**fields, "index": index, "simulator": SIMULATOR})

    def split_of(self, case_id: str) -> Split:
        """Known without making the case."""
        return split_of(self.ids.index(case_id), self.config.valid_fraction)
