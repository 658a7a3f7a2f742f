"""Reports whose length tells nothing: what is said is chosen until a report has a length that was drawn before.

A sick patient's report would else be longer than a healthy one's, or of longer sentences, and a network could read labels
off it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from ctgen.data.atlas.grammar import Speaker

_MOVES = 400
"""Words are met after some fifty; the others bring sentences and letters nearer."""


@dataclass(frozen=True)
class Length:
    words: int = 0
    letters: int = 0
    """Spaces and full stops count."""
    sentences: int = 0

    def __add__(self, other: Length) -> Length:
        return Length(self.words + other.words, self.letters + other.letters, self.sentences + other.sentences)

    def __sub__(self, other: Length) -> Length:
        return Length(self.words - other.words, self.letters - other.letters, self.sentences - other.sentences)

    @property
    def off(self) -> float:
        """How much a difference weighs. Letters cannot be met as well: the names of findings are long words."""
        return 5 * abs(self.words) + abs(self.letters) / 4 + 8 * abs(self.sentences)


@dataclass(frozen=True)
class Remark:
    """One thing that a report can say; every call of ``tell`` words it anew, in whole sentences."""

    tell: Callable[[], str]
    usual: float = 1.0
    """How likely it is said if there is room; 1: it is said whatever the length."""


@dataclass(frozen=True)
class Lengths:
    """Where lengths are drawn from, least and most; each is as likely as those between."""

    words: tuple[int, int]
    letters_per_word: tuple[float, float]
    words_per_sentence: tuple[float, float]

    def draw(self, say: Speaker) -> Length:
        words = int(say.rng.integers(self.words[0], self.words[1] + 1))
        letters = round(words * say.rng.uniform(*self.letters_per_word))
        return Length(words, letters, round(words / say.rng.uniform(*self.words_per_sentence)))


def fitted(say: Speaker, remarks: Sequence[Remark], length: Length) -> str:
    """A text of ``remarks``, in their order, of ``length``, or as nearly as it can be.

    Starts from what is usually said; then leaves out, adds and rewords at random whatever brings the length nearer.
    """
    told = [remark.tell() if _draw(say, remark) else "" for remark in remarks]
    gap = length
    for text in told:
        gap -= measure(text)
    for _ in range(_MOVES):
        # Two at once can exchange words without a change of their number.
        places = {int(place) for place in say.rng.integers(len(remarks), size=2 if say.chance(0.5) else 1)}
        new = {place: _another(say, remarks[place], told[place]) for place in places}
        left = gap
        for place, text in new.items():
            left += measure(told[place]) - measure(text)
        if left.off < gap.off:
            gap = left
            for place, text in new.items():
                told[place] = text
    return " ".join(text for text in told if text)


def paired(say: Speaker, remarks: Sequence[Remark]) -> list[Remark]:
    """Neighbours as one remark, which tells one of them, or both in two sentences or in one.

    Only for what is denied or normal: a sentence must not tell one finding and deny another.
    """
    pairs = [remarks[place : place + 2] for place in range(0, len(remarks), 2)]
    return [Remark(partial(_some, say, pair), max(remark.usual for remark in pair)) for pair in pairs]


def _some(say: Speaker, pair: Sequence[Remark]) -> str:
    told = [remark.tell() for remark in pair]
    if len(told) > 1 and say.chance(0.4):
        return told[int(pair[1].usual > say.rng.uniform(0, pair[0].usual + pair[1].usual))]
    if len(told) < 2 or say.chance(0.3):
        return " ".join(told)
    first, second = told
    return first.removesuffix(".") + say.phrase(", and", ";") + " " + second[0].lower() + second[1:]


def _another(say: Speaker, remark: Remark, old: str) -> str:
    if not old and not _draw(say, remark):
        return ""
    return "" if old and remark.usual < 1 and say.chance(0.5) else remark.tell()


def measure(text: str) -> Length:
    return Length(len(text.split()), len(text) + 1, text.count(". ") + 1) if text else Length()


def _draw(say: Speaker, remark: Remark) -> bool:
    return remark.usual >= 1 or say.chance(remark.usual)
