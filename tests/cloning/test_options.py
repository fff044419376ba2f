"""The commands of docs/suspend-and-clone.md are those that there are."""

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from cloning import options as cloning_options
from suspending import options as suspending_options

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/suspend-and-clone.md").read_text().replace("\\\n", " ")


@pytest.mark.parametrize(
    ("script", "parse", "actions"),
    [
        ("suspend-resume", suspending_options.parse, {"trial", "suspend", "resume"}),
        ("clone-guest", cloning_options.parse, {"trial", "start"}),
    ],
)
def test_the_page_shows_commands_that_parse(
    script: str, parse: Callable[[list[str]], object], actions: set[str]
) -> None:
    shown = [
        shlex.split(line, comments=True)[1:]
        for line in PAGE.splitlines()
        if line.strip().startswith(f"scripts/{script} ")
    ]
    for words in shown:
        parse(words)
    assert {words[0] for words in shown} == actions


def test_wrong_options_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["trial", "--clones", "0"], ["trial", "--memory", "64"], ["start"], []):
        with pytest.raises(SystemExit) as refused:
            cloning_options.parse(words)
        assert refused.value.code == 2
    start = ["start", "--memory", "M", "--state", "S", "--settle", "-1", "--", "C"]
    with pytest.raises(SystemExit):
        cloning_options.parse(start)
    assert "--settle" in capsys.readouterr().err
    found = cloning_options.parse([*start[:5], "--clones", "3", "--", "qemu", "-m", "8M"])
    assert (found.clones, found.command) == (3, ["qemu", "-m", "8M"])
