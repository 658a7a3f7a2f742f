"""Sentences on pericardial effusion."""

from __future__ import annotations

import re

from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.reports.words import NOT_SEEN, About

NAME = "pericardial_effusion"
SPEAKS = re.compile(r"^(?=.*pericardi).*(?:effusion|fluid)")


def absent(say: Speaker, about: About) -> str:
    return say.say(
        "no pericardial effusion[ or thickening|] " + NOT_SEEN,
        "pericardial [effusion|fluid][-thickening|] was not [detected|observed]",
        "there is no pericardial effusion",
        "the pericardium is [normal|of normal thickness, without effusion]",
    )
