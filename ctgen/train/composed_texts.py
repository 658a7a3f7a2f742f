"""Short texts that say which labels are there and what of them, for text encoders that learn to tell: one statement a label."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ctgen.data.labels import LABELS

FACTS = ("left", "right", "small", "moderate", "large", "upper", "middle", "lower")
"""What is learnt about each label beside its presence."""
SIDES: Mapping[str, tuple[str, ...]] = {"": (), "left": ("left",), "right": ("right",), "bilateral": ("left", "right")}
"""Words for where something is, and the facts that they state."""
SIZES = ("", *FACTS[2:5])
LOBES = ("", *FACTS[5:])
DENIALS = ("No {}.", "There is no {}.", "No {} is seen.")
MOST_STATEMENTS = 6


def composed(generator: torch.Generator) -> tuple[str, list[float], list[float]]:
    """(text, 0 or 1 for every label, 0 or 1 for every fact, label by label in the order of FACTS).

    One to MOST_STATEMENTS statements, a third of them denials; the rest have any side, size and lobe, or none. That no report
    would say this is meant: nothing but the words next to each other tells what belongs to what.
    """

    def pick(count: int) -> int:
        return int(torch.randint(count, (), generator=generator))

    labels, values = [0.0] * len(LABELS), [0.0] * (len(LABELS) * len(FACTS))
    order = torch.randperm(len(LABELS), generator=generator).tolist()
    statements = []
    for number in order[: 1 + pick(MOST_STATEMENTS)]:
        name = LABELS[number].lower()
        if pick(3) == 0:
            statements.append(DENIALS[pick(len(DENIALS))].format(name))
            continue
        side, size, lobe = list(SIDES)[pick(len(SIDES))], SIZES[pick(len(SIZES))], LOBES[pick(len(LOBES))]
        labels[number] = 1.0
        for fact in filter(None, (*SIDES[side], size, lobe)):
            values[number * len(FACTS) + FACTS.index(fact)] = 1.0
        statements.append(statement(name, side, size, lobe))
    return " ".join(statements), labels, values


def statement(name: str, side: str, size: str, lobe: str) -> str:
    """ "Large left pleural effusion.", "Small lung nodule in the right upper lobe." """
    within = side if lobe and side in ("left", "right") else ""
    words = [word for word in (size, "" if within else side, name) if word]
    if lobe:
        words += [word for word in ("in the", within, lobe, "lobe") if word]
    text = " ".join(words)
    return f"{text[0].upper()}{text[1:]}."
