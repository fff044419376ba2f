"""Bytes that come in pieces of any length become whole pages, and are asked for seldom."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difffs.page import PAGE_SIZE
from difffs.stored_image.pages import PageWriter
from tests.stores import OpenStore, scratch

LENGTH = 12 * PAGE_SIZE


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, LENGTH - 1), st.integers(1, 3 * PAGE_SIZE), st.booleans()),
        min_size=1,
        max_size=12,
    )
)
def test_what_was_written_last_is_there_wherever_it_lies(
    pieces: list[tuple[int, int, bool]],
) -> None:
    random = Random(1)
    expected = bytearray(LENGTH)
    with scratch() as folder, OpenStore(folder / "store", "default") as opened:
        volume = opened.new_volume("volume", LENGTH // PAGE_SIZE)
        writer = PageWriter(opened.engine)
        end = 0
        for start, count, goes_on in pieces:
            start = end % LENGTH if goes_on else start
            data = random.randbytes(min(count, LENGTH - start))
            expected[start : start + len(data)] = data
            writer.write(volume, start, data)
            end = start + len(data)
        writer.flush()
        assert opened.read(volume, 0, LENGTH // PAGE_SIZE) == bytes(expected)


def test_pieces_that_go_on_from_each_other_ask_for_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = Random(2)
    content = random.randbytes(LENGTH)
    with scratch() as folder, OpenStore(folder / "store", "default") as opened:
        volume = opened.new_volume("volume", LENGTH // PAGE_SIZE)
        writer = PageWriter(opened.engine)
        asked: list[int] = []
        read = writer.read

        def counted(number: int, first: int, out: bytearray | memoryview) -> None:
            asked.append(first)
            read(number, first, out)

        monkeypatch.setattr(writer, "read", counted)
        at = 0
        while at < LENGTH:
            count = random.randrange(1, 9000)
            writer.write(volume, at, content[at : at + count])
            at += count
        assert asked == []
        writer.flush()
        assert opened.read(volume, 0, LENGTH // PAGE_SIZE) == content
