"""Sentences on lymph nodes."""

from __future__ import annotations

import re

from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.reports.words import ARE_SEEN, NOT_SEEN, SEEN, About, Row

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


_STATION = {
    "paratracheal right": "[right paratracheal|right lower paratracheal]",
    "paratracheal left": "[left paratracheal|left lower paratracheal]",
    "subcarinal": "subcarinal",
    "hilar right": "right hilar",
    "hilar left": "left hilar",
    "prevascular": "[prevascular|anterior mediastinal prevascular]",
    "axillary right": "right axillary",
    "axillary left": "left axillary",
}


def present(say: Speaker, rows: list[Row], about: About) -> list[str]:
    """All nodes in a sentence, or a sentence for each."""
    stations = list(dict.fromkeys(row["station"] for row in rows))
    places = _listed([say.phrase(_STATION[name]) for name in stations])
    large = "[enlarged|pathologically enlarged|pathological]"
    if len(rows) == 1 or (len(rows) <= 3 and say.chance(0.35)):
        return [_one(say, row, large) for row in rows]
    return [
        say.say(
            large + " lymph nodes " + ARE_SEEN + " in the {places} station{s}[, the largest[ of them|] with a short axis of "
            "{mm} mm|, up to {mm} mm in short axis|]",
            "{places} lymphadenopathy " + SEEN + "[, the largest node measuring {mm} mm[ in short axis|]| (up to {mm} mm)|]",
            "there are {number} " + large + " lymph nodes at the {places} station{s}[, the largest {mm} mm|; the largest "
            "measures {mm} mm in short diameter|]",
            "{number} lymph nodes of pathological size " + ARE_SEEN + " ({places})[, the largest {mm} mm in short axis|]",
            "lymphadenopathies reaching {mm} mm in short axis " + ARE_SEEN + " in the {places} [area|region]{s}",
            places=places,
            number={2: "two", 3: "three", 4: "four", 5: "five"}.get(len(rows), "multiple"),
            mm=max(row["size_mm"] for row in rows),
            s="s" if len(stations) > 1 else "",
        )
    ]  # fmt: skip


def _one(say: Speaker, row: Row, large: str) -> str:
    return say.say(
        "[one |]" + large + " lymph node [of {mm} mm |with a short axis of {mm} mm |]" + SEEN
        + " in the {place} station",
        "a {place} lymph node [with a short axis of {mm} mm|measuring {mm} mm in short axis] " + SEEN,
        "there is a {place} lymphadenopathy of {mm} mm[ in short axis|]",
        "in the {place} station, a lymph node enlarged to {mm} mm[ in short axis|] " + SEEN,
        place=say.phrase(_STATION[row["station"]]),
        mm=row["size_mm"],
    )  # fmt: skip


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def impression(say: Speaker, rows: list[Row], about: About) -> list[str]:
    stations = {row["station"].split()[0] for row in rows}
    groups = [
        word
        for word, members in (
            ("mediastinal", {"paratracheal", "subcarinal", "prevascular"}),
            ("hilar", {"hilar"}),
            ("axillary", {"axillary"}),
        )
        if stations & members
    ]
    return [
        say.say(
            "{groups} lymphadenopathy[; clinical correlation is recommended|, reactive or neoplastic|]",
            "enlarged {groups} lymph node{s}[ (up to {mm} mm)|]",
            "[pathological |]{groups} lymph node enlargement",
            groups=_listed(groups),
            s="s" if len(rows) > 1 else "",
            mm=max(row["size_mm"] for row in rows),
        )
    ]
