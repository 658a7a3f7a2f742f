"""Sentences on calcification of the coronary arteries."""

from __future__ import annotations

import re

from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.reports.words import NOT_SEEN, About

NAME = "coronary_artery_wall_calcification"
SPEAKS = re.compile(r"^(?=.*coronar).*calcif")


def absent(say: Speaker, about: About) -> str:
    return say.say(
        "no coronary [artery |arterial |]calcification " + NOT_SEEN,
        "the coronary arteries are not calcified",
        "there is no calcified plaque in the coronary arteries",
    )
