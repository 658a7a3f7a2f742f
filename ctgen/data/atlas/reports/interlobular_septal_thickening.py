"""Sentences on interlobular septal thickening."""

from __future__ import annotations

import re

from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.reports.words import NOT_SEEN, About

NAME = "interlobular_septal_thickening"
SPEAKS = re.compile(r"interlobular|\bseptal?\b")


def absent(say: Speaker, about: About) -> str:
    return say.say(
        "no interlobular septal thickening " + NOT_SEEN,
        "interlobular septa are not thickened",
    )
