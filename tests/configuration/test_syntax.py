"""The text of a configuration file: what it means, and which line is wrong."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from difffs.configuration.syntax import decode, parse
from difffs.errors import ConfigurationProblem

FILE = Path("/etc/difffs.conf")

WORDS = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=8)
NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,8}", fullmatch=True)
VALUES = st.from_regex(
    r"[A-Za-z0-9/%=,.\[\]é][A-Za-z0-9/%=,. é\[\]#;:-]{0,20}", fullmatch=True
).map(lambda value: value.replace(" #", "#").replace(" ;", ";").strip())
SPACE = st.sampled_from(["", " ", "\t", "  "])
CONTENT = st.dictionaries(
    st.tuples(WORDS, NAMES), st.dictionaries(WORDS, VALUES, max_size=4), max_size=4
)


@given(CONTENT, SPACE, st.sampled_from(["", "\n", "# a comment = no\n", "; [no section]\n"]))
def test_what_is_written_is_read(
    content: dict[tuple[str, str], dict[str, str]], space: str, between: str
) -> None:
    text = ""
    lines = {}
    for (kind, name), values in content.items():
        text += f"{between}{space}[{kind} {name}]{space}\n"
        for key, value in values.items():
            text += f"{between}{space}{key}{space}={space}{value}{space}\n"
            lines[kind, name, key] = text.count("\n")
    sections = parse(text, FILE)
    assert {
        (section.kind, section.name): {key: value.text for key, value in section.values.items()}
        for section in sections
    } == content
    for section in sections:
        for key, read in section.values.items():
            assert read.place.line == lines[section.kind, section.name, key]


@given(st.lists(st.text(alphabet="[]=#; ab\\\r\t\0", max_size=8), max_size=8))
def test_whatever_it_is_a_complaint_names_a_line(lines: list[str]) -> None:
    try:
        sections = parse("\n".join(lines), FILE)
    except ConfigurationProblem as problem:
        number = int(str(problem).removeprefix(f"{FILE}:").partition(":")[0])
        if number not in range(1, len(lines) + 1):
            raise
        return
    for section in sections:
        assert f"[{section.kind}" in lines[section.place.line - 1].replace("[ ", "[")


@pytest.mark.parametrize(
    ("text", "line", "complaint"),
    [
        ("store = /srv", 1, "store stands in no section"),
        ("[mount]", 1, "[mount] is no section: write [mount NAME]"),
        ("[mount a b]", 1, "is no section"),
        ("[mount a", 1, "is no section"),
        ("\n[mount a]\nstore", 3, "'store' is neither [KIND NAME] nor KEY = VALUE"),
        ("[mount a]\n= x", 2, "is neither"),
        ("[mount a]\nstore =", 2, "store has no value"),
        ("[mount a]\nstore: /srv", 2, "is neither"),
        ("[mount a]\nstore = /a\n\nstore = /b", 4, "store is set already, in line 2"),
        ("[mount a]\n[swap a]\n[mount a]", 3, "[mount a] is there already, in line 1"),
        ("[mount a]\nstore = /srv # fast", 2, "a comment needs a line of its own"),
        ("[mount a]\nstore = ; /srv", 2, "a comment needs a line of its own"),
        ("[mount a]\noptions = ro,\\\n  buffer=1M", 2, "leave the backslash out"),
        ("[mount a]\nstore = /a\0b", 2, "zero byte"),
    ],
)
def test_what_is_wrong_is_named(text: str, line: int, complaint: str) -> None:
    with pytest.raises(ConfigurationProblem) as caught:
        parse(text, FILE)
    assert str(caught.value).startswith(f"{FILE}:{line}: ")
    assert complaint in str(caught.value)


def test_other_bytes_than_text() -> None:
    assert decode("\ufeff[mount ä]".encode(), FILE) == "[mount ä]"
    with pytest.raises(ConfigurationProblem, match=r"/etc/difffs.conf:2: is not UTF-8"):
        decode(b"[mount a]\nstore = /\xe4\n", FILE)
