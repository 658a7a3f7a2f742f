"""Sentences on medical material."""

from __future__ import annotations

import re

from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.reports.words import NOT_SEEN, About

NAME = "medical_material"
SPEAKS = re.compile(r"medical material|catheter|pacemaker")


def absent(say: Speaker, about: About) -> str:
    return say.say(
        "no catheter, pacemaker or other medical material " + NOT_SEEN,
        "there is no medical material in the chest",
    )
