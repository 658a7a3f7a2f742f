from __future__ import annotations

import signal
import threading

import pytest

from ctgen.errors import Interrupted
from ctgen.stages.context import Stopper


def test_a_first_signal_is_noted_a_second_stops_at_once():
    stopper = Stopper()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with stopper.listening():
        stopper.check()
        signal.raise_signal(signal.SIGTERM)
        assert stopper.requested
        with pytest.raises(Interrupted, match="twice"):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(Interrupted) as caught:
            stopper.check()
    assert "the same command goes on" in caught.value.hint
    assert {number: signal.getsignal(number) for number in before} == before


def test_handlers_are_put_back_after_an_error():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError), Stopper().listening():
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGINT) is before


def test_outside_the_main_thread_signals_are_left_alone():
    found = []

    def work():
        with Stopper().listening():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGINT)]
