"""Sentences on calcification of the aorta and its branches."""

from __future__ import annotations

import re

from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.reports.words import NOT_SEEN, About

NAME = "arterial_wall_calcification"
SPEAKS = re.compile(r"^(?!.*coronar)(?=.*(?:aort|arter)).*(?:calcif|atherom)")


def absent(say: Speaker, about: About) -> str:
    return say.say(
        "no [wall |]calcification of the [thoracic |]aorta " + NOT_SEEN,
        "the [aortic wall|wall of the thoracic aorta] is not calcified",
        "there is no calcified plaque in the aortic wall",
    )
