"""Sentences on hiatal hernia; without one, on the oesophagus."""

from __future__ import annotations

import re

from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.reports.words import NOT_SEEN, About

NAME = "hiatal_hernia"
SPEAKS = re.compile(r"hernia")


def absent(say: Speaker, about: About) -> str:
    return say.say(
        "the thoracic oesophagus is [normal|of normal calibre][, without wall thickening|]",
        "no [wall thickening|thickening] of the oesophagus " + NOT_SEEN,
        "[no hiatal hernia " + NOT_SEEN + "|there is no hiatal hernia]",
        "thoracic esophageal calibration is normal, and no [significant|tumoral] wall thickening was detected",
    )
