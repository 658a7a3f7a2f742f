"""Sentences on lymph nodes."""

from __future__ import annotations

import re

from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.reports.words import ARE_SEEN, NOT_SEEN, About

NAME = "lymphadenopathy"
SPEAKS = re.compile(r"lymph")


def absent(say: Speaker, about: About) -> str:
    return say.say(
        "no [pathologically enlarged|enlarged|pathological] lymph nodes "
        + ARE_SEEN
        + " in the mediastinum[ or hila| or axillae|]",
        "no lymphadenopathy " + NOT_SEEN + "[ in mediastinal and hilar stations| in the chest|]",
        "[mediastinal, hilar and axillary|mediastinal and hilar|prevascular, paratracheal and subcarinal] lymph "
        "nodes are not enlarged",
        "there are no lymph nodes of pathological size[ or appearance|] in the mediastinum",
    )
