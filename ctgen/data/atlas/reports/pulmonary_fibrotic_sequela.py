"""Sentences on fibrotic sequelae."""

from __future__ import annotations

import re

from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.reports.words import NOT_SEEN, About

NAME = "pulmonary_fibrotic_sequela"
SPEAKS = re.compile(r"fibro|sequela|scar")


def absent(say: Speaker, about: About) -> str:
    return say.say(
        "no [fibrotic change|fibrosis|fibrotic sequela] " + NOT_SEEN,
        "there is no [pleuroparenchymal |]scarring[ in either lung|]",
        "no sequela of [earlier|previous] disease " + NOT_SEEN + " in the lungs",
    )
