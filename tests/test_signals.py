"""Signals that end: an exception first, the end itself when they are repeated."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from difffs import signals
from difffs.signals import EndedBySignal, ending_by_exception

ENDING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_first_is_an_exception(number: signal.Signals) -> None:
    with pytest.raises(EndedBySignal, match=number.name) as caught, ending_by_exception():
        send(number)
    assert caught.value.exit_code == 128 + number
    assert signal.getsignal(number) == signal.SIG_DFL


def test_an_interrupt_stays_one() -> None:
    with pytest.raises(KeyboardInterrupt), ending_by_exception():
        send(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


@pytest.mark.parametrize("number", ENDING)
def test_one_that_comes_twice_at_once_is_one(number: signal.Signals) -> None:
    cleaned = []

    def work() -> None:
        try:
            send(number)
        finally:
            send(number)
            cleaned.append(number)

    with pytest.raises((EndedBySignal, KeyboardInterrupt)), ending_by_exception():
        work()
    assert cleaned


@pytest.mark.parametrize("number", ENDING)
def test_a_second_one_ends_at_once(number: signal.Signals) -> None:
    script = f"""
import os, signal, sys, time
from difffs import signals
signals.SAME_SECONDS = -1.0
signal.signal(signal.SIGINT, signal.default_int_handler)
with signals.ending_by_exception():
    try:
        os.kill(os.getpid(), {number})
    finally:
        os.kill(os.getpid(), {number})
        time.sleep(60)
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, timeout=30)
    assert done.returncode == -number


@contextmanager
def handler(number: signal.Signals, what: "signal._HANDLER") -> Iterator[None]:
    before = signal.signal(number, what)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_what_is_ignored_stays_ignored(number: signal.Signals) -> None:
    with handler(number, signal.SIG_IGN), ending_by_exception():
        send(number)
        assert signal.getsignal(number) == signal.SIG_IGN


def test_other_threads_leave_signals_alone() -> None:
    seen: list[object] = []

    def work() -> None:
        with ending_by_exception():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]
    assert signals.EndedBySignal(15).exit_code == 143
