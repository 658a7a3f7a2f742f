"""Templates with choices: ``[a|b|]`` picks one alternative (here perhaps nothing), nested as deep as needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class Speaker:
    """Expands templates with the draws of one generator."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def chance(self, probability: float) -> bool:
        return bool(self.rng.uniform() < probability)

    def shuffled(self, items: Sequence[T]) -> list[T]:
        return [items[int(position)] for position in self.rng.permutation(len(items))]

    def say(self, *templates: str, **slots: object) -> str:
        """One of ``templates``, expanded, ``{slot}`` filled, spaces tidied, first letter a capital, a full stop at the end."""
        text = self.phrase(*templates, **slots)
        text = text[0].upper() + text[1:]
        return text if text.endswith(".") else text + "."

    def phrase(self, *templates: str, **slots: object) -> str:
        """As ``say``, inside a sentence."""
        template = templates[int(self.rng.integers(len(templates)))]
        text = self._expand(template)
        for name, value in slots.items():
            text = text.replace("{" + name + "}", str(value))
        return " ".join(text.split()).replace(" ,", ",").replace(" .", ".")

    def _expand(self, template: str) -> str:
        out, position = [], 0
        while position < len(template):
            if template[position] != "[":
                out.append(template[position])
                position += 1
                continue
            choices, end = _alternatives(template, position)
            out.append(self._expand(choices[int(self.rng.integers(len(choices)))]))
            position = end
        return "".join(out)


def _alternatives(template: str, start: int) -> tuple[list[str], int]:
    """The alternatives of the bracket that opens at ``start``, and the position after it; raises ValueError if unclosed."""
    depth, choices, last = 0, [], start + 1
    for position in range(start, len(template)):
        letter = template[position]
        if letter == "[":
            depth += 1
        elif letter == "]":
            depth -= 1
            if depth == 0:
                choices.append(template[last:position])
                return choices, position + 1
        elif letter == "|" and depth == 1:
            choices.append(template[last:position])
            last = position + 1
    raise ValueError(f"unclosed bracket in template: {template}")
