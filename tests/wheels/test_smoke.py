"""The image of the smoke test, and what is told when an installation is not as it should be."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from wheels import smoke, test_wheel

from difffs._kernels import same_word


def test_the_image_is_the_same_each_time_and_has_all_kinds_of_pages() -> None:
    content = smoke.image(256)
    assert content == smoke.image(256)
    assert content != smoke.image(256, seed=2)
    pages = [content[at : at + smoke.PAGE] for at in range(0, len(content), smoke.PAGE)]
    assert len(pages) == 256
    words = [same_word(page) for page in pages]
    assert bytes(8) in words
    assert any(word not in (None, bytes(8)) for word in words)
    others = [page for page, word in zip(pages, words, strict=True) if word is None]
    assert len(set(others)) < len(others)


def test_versions_have_to_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoke, "_PROGRAM", Path(sys.executable).with_name("difffs"))
    lines = smoke._versions([])
    assert smoke._versions([lines[1].replace(" ", "=")]) == lines
    with pytest.raises(smoke.SmokeError, match="has no libzstd=0"):
        smoke._versions(["libzstd=0.0.1"])


def test_commands_that_fail_are_told() -> None:
    with pytest.raises(smoke.SmokeError, match="difffs check /nowhere/at/all: exit 3: "):
        smoke.difffs("check", "/nowhere/at/all")


def test_the_line_about_a_wheel() -> None:
    found = {
        "python": "3.13.5",
        "bytes": {"payload": 6174478, "stored": 6373376},
        "mounted": False,
        "not_mounted_because": "no libfuse3",
        "guest": "",
    }
    line = test_wheel.told("here", found)
    assert line == (
        "here, Python 3.13.5: payloads of 6,174,478 bytes, stored 6,373,376,"
        " not mounted: no libfuse3"
    )
