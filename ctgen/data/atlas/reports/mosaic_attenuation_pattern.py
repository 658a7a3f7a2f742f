"""Sentences on mosaic attenuation."""

from __future__ import annotations

import re

from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.reports.words import NOT_SEEN, About

NAME = "mosaic_attenuation_pattern"
SPEAKS = re.compile(r"mosaic")


def absent(say: Speaker, about: About) -> str:
    return say.say(
        "no mosaic attenuation pattern " + NOT_SEEN,
    )
