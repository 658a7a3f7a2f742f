"""Words of ``ctgen generate`` that need more than a type."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ctgen.errors import ConfigError
from ctgen.interfaces import Report


def wanted_reports(texts: Sequence[str], table: Path | None) -> list[tuple[str, Report]]:
    """(id, report) from --report and --reports; ConfigError if there is neither or both."""
    from ctgen.sample.reports import from_text, read_reports

    if bool(texts) == (table is not None):
        what = "no report" if not texts else "both --report and --reports"
        raise ConfigError(f"{what} given", hint='write --report "Small left pleural effusion." or --reports FILE.csv')
    if table is not None:
        return read_reports(table)
    # The same text twice would be the same id and so the same file.
    return list(dict(from_text(text) for text in texts).items())


def parse_spacing(text: str | None) -> tuple[float, float, float] | None:
    """ "3,1.5,1.5" or one number for all axes, in mm; ConfigError for anything else."""
    if text is None:
        return None
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 3) or not all(0 < value <= 100 for value in values):
        raise ConfigError(f"--spacing {text!r} is not a voxel spacing", hint="write D,H,W in mm, as in --spacing 3,1.5,1.5")
    d, h, w = values if len(values) == 3 else values * 3
    return d, h, w
