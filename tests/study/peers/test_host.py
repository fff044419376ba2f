"""Changing the host for a moment, and putting it back."""

import os
import signal
import threading
from pathlib import Path

import pytest

from difffs.errors import EnvironmentProblem
from difffs.study.peers import host


def test_the_value_in_brackets_is_the_chosen_one() -> None:
    text = "[lzo-rle] lzo lz4 \n"  # comp_algorithm of Linux 6.18
    assert host.chosen(text) == "lzo-rle"
    assert host.choices(text) == ["lzo-rle", "lzo", "lz4"]
    assert host.chosen("none [scan-time]\n") == "scan-time"
    assert host.chosen("100\n") == "100"


def test_a_setting_is_put_back_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "knob"
    path.write_text("[old] new\n")

    def fail() -> None:
        with host.setting(path, "new"):
            assert path.read_text() == "new"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old"


def test_a_setting_that_is_refused_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(EnvironmentProblem, match="knob does not take 7"),
        host.setting(tmp_path / "knob", "7"),
    ):
        pytest.fail("the setting is not there")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_block_is_undone_once_when_interrupted(number: signal.Signals) -> None:
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    undone = []

    def work() -> None:
        with host.undone_when_interrupted():
            try:
                os.kill(os.getpid(), number)
                signal.pause()
            finally:
                os.kill(os.getpid(), number)  # somebody is impatient
                undone.append(True)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert undone == [True]
    assert {one: signal.getsignal(one) for one in before} == before


def test_a_failing_tool_is_named_with_its_complaint() -> None:
    with pytest.raises(EnvironmentProblem, match=r"ls exited with 2: .*no-such-file"):
        host.run_tool("ls", "/no-such-file")


def test_a_missing_tool_is_named_with_its_package() -> None:
    reason = host.tool_obstacle("no-such-program", "no-such-package")
    assert reason == "no no-such-program (install the package no-such-package)"
    assert host.tool_obstacle("ls", "coreutils") is None


def test_one_study_waits_for_the_other(tmp_path: Path) -> None:
    path = tmp_path / "knob"
    path.write_text("0")
    order = []

    def second() -> None:
        with host.alone(path):
            order.append("second")

    thread = threading.Thread(target=second)
    with host.alone(path):
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
