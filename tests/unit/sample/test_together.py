"""Computations whose questions are answered together: order, batches, errors, interruption."""

from __future__ import annotations

import signal
import threading

import pytest

from ctgen.sample.together import together


def adder(name, questions, log=None):
    """Asks ``questions`` times and adds up the answers."""

    def work(ask):
        total = 0
        for number in range(questions):
            if log is not None:
                log.append((name, number))
            total += ask((name, number))
        return name, total

    return work


def ten_times(batches):
    def answer(questions):
        batches.append(list(questions))
        return [10 * number for _, number in questions]

    return answer


@pytest.mark.parametrize("most", [1, 2, 3, 7])
def test_results_do_not_depend_on_how_many_run_together(most):
    batches = []
    lengths = {"a": 3, "b": 1, "c": 4, "d": 0, "e": 2}
    found = dict(together((adder(name, count) for name, count in lengths.items()), ten_times(batches), most))
    assert found == {index: (name, 10 * sum(range(count))) for index, (name, count) in enumerate(lengths.items())}
    assert max(map(len, batches)) == min(most, 4)
    assert sum(map(len, batches)) == sum(lengths.values())


def test_who_ends_makes_room_for_the_next():
    batches = []
    found = list(together([adder("a", 3), adder("b", 1), adder("c", 2)], ten_times(batches), 2))
    assert batches == [[("a", 0), ("b", 0)], [("a", 1), ("c", 0)], [("a", 2), ("c", 1)]]
    assert [index for index, _ in found] == [1, 0, 2]


def test_they_take_turns_in_order_and_one_at_a_time():
    log = []
    list(together([adder("a", 2, log), adder("b", 2, log), adder("c", 2, log)], ten_times([]), 3))
    assert log == [("a", 0), ("b", 0), ("c", 0), ("a", 1), ("b", 1), ("c", 1)]


def test_one_alone_makes_no_thread():
    seen = []

    def work(ask):
        seen.append(threading.current_thread())
        return ask(("a", 1))

    assert list(together([work], ten_times([]), 1)) == [(0, 10)]
    assert seen == [threading.main_thread()]


def alive():
    return [thread for thread in threading.enumerate() if thread.name.startswith("case-")]


def test_an_error_in_one_reaches_the_caller_and_ends_the_others():
    ended = []

    def careful(ask):
        try:
            return ask(("a", 0)) + ask(("a", 1)) + ask(("a", 2))
        except Exception:  # what ends it must not be taken for an error of its own
            ended.append("swallowed")
            raise
        finally:
            ended.append("cleaned up")

    def broken(ask):
        ask(("b", 0))
        raise ValueError("case b is broken")

    with pytest.raises(ValueError, match="case b is broken"):
        list(together([careful, broken], ten_times([]), 2))
    assert ended == ["cleaned up"]
    assert not alive()


def test_an_error_before_the_first_question_and_one_in_the_answer():
    def broken(ask):
        raise ValueError("at once")

    with pytest.raises(ValueError, match="at once"):
        list(together([adder("a", 2), broken], ten_times([]), 2))

    def refuse(questions):
        raise MemoryError("too many")

    with pytest.raises(MemoryError):
        list(together([adder("a", 2), adder("b", 2)], refuse, 2))
    assert not alive()


def test_leaving_early_ends_what_is_under_way():
    running = together([adder("a", 1), adder("b", 5), adder("c", 5)], ten_times([]), 3)
    assert next(running) == (0, ("a", 0))
    assert len(alive()) == 2
    running.close()
    assert not alive()


def test_a_signal_interrupts_the_caller_while_a_case_works():
    begun = threading.Event()

    def endless(ask):
        ask(("a", 0))
        begun.set()
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        return ask(("a", 1))

    # whoever starts the tests in the background may have them ignore the signal
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            list(together([endless, adder("b", 3)], ten_times([]), 2))
    finally:
        signal.signal(signal.SIGINT, before)
    assert begun.is_set()
    assert not alive()
