from __future__ import annotations

import pytest

from ctgen.data.labels import LABELS
from ctgen.train.batches import generator_for
from ctgen.train.composed_texts import FACTS, MOST_STATEMENTS, composed, statement


def test_texts_state_what_the_targets_say():
    generator, seen, counts = generator_for(0), set(), set()
    for _ in range(400):
        text, labels, values = composed(generator)
        assert len(labels) == len(LABELS) and len(values) == len(LABELS) * len(FACTS)
        statements = [part + "." for part in text.split(".") if part]
        counts.add(len(statements))
        for spoken in statements:
            words = spoken.lower().rstrip(".").split()
            number = next(n for n, name in enumerate(LABELS) if name.lower() in spoken.lower())
            denied = words[0] in ("no", "there")
            assert labels[number] == (not denied)
            told = {fact for place, fact in enumerate(FACTS) if values[number * len(FACTS) + place]}
            expected = {word for word in words if word in FACTS} | ({"left", "right"} if "bilateral" in words else set())
            assert told == (set() if denied else expected), spoken
            seen |= told
        # and nothing of what is not spoken of
        assert sum(labels) == sum(part.strip().split()[0].lower() not in ("no", "there") for part in statements)
    assert seen == set(FACTS) and counts == set(range(1, MOST_STATEMENTS + 1))


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("pleural effusion", "left", "large", ""), "Large left pleural effusion."),
        (("lung nodule", "right", "small", "upper"), "Small lung nodule in the right upper lobe."),
        (("consolidation", "bilateral", "", "lower"), "Bilateral consolidation in the lower lobe."),
        (("emphysema", "", "", ""), "Emphysema."),
    ],
)
def test_statements_are_what_a_report_would_say(words, text):
    assert statement(*words) == text


def test_the_same_generator_gives_the_same_texts():
    one, other = generator_for(7), generator_for(7)
    assert [composed(one) for _ in range(5)] == [composed(other) for _ in range(5)]
