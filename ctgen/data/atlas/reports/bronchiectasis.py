"""Sentences on bronchiectasis."""

from __future__ import annotations

import re

from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.reports.words import NOT_SEEN, About

NAME = "bronchiectasis"
SPEAKS = re.compile(r"bronchiect|bronchial widening")


def absent(say: Speaker, about: About) -> str:
    return say.say(
        "no [bronchiectasis|bronchial widening or bronchiectasis] " + NOT_SEEN,
        "bronchiectasis is absent",
    )
