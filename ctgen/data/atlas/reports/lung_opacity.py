"""Sentences on ground-glass opacity."""

from __future__ import annotations

import re

from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.reports.words import NOT_SEEN, About

NAME = "lung_opacity"
SPEAKS = re.compile(r"ground[- ]glass|opacit")


def absent(say: Speaker, about: About) -> str:
    return say.say(
        "no [ground-glass|ground glass] opacity " + NOT_SEEN + "[ in either lung|]",
        "there is no [ground-glass opacity|parenchymal opacity]",
        "no [parenchymal |]opacity " + NOT_SEEN + " in [either lung|both lungs]",
    )
