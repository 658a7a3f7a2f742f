"""Sentences on peribronchial thickening."""

from __future__ import annotations

import re

from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.reports.words import NOT_SEEN, About

NAME = "peribronchial_thickening"
SPEAKS = re.compile(r"peribronchial|bronchial wall")


def absent(say: Speaker, about: About) -> str:
    return say.say(
        "there is no peribronchial thickening",
        "no peribronchial thickening " + NOT_SEEN,
    )
