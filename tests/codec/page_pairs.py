"""Pairs of a page and its base for Hypothesis, made to be hard on matching."""

from random import Random

from hypothesis import strategies as st

PAGE = 4096
Pair = tuple[bytes, bytes]
"""The page and its base."""

seeds = st.integers(0, 2**32)


@st.composite
def plain_pages(draw: st.DrawFn) -> bytes:
    """Random, of few values, periodic, and all bytes equal."""
    period = draw(st.sampled_from([PAGE, PAGE, 1, 2, 3, 8, 12, 64, 1000]))
    alphabet = draw(st.sampled_from([bytes(range(256)), b"\x00\x01", b"the quick brown fox"]))
    cell = bytes(Random(draw(seeds)).choices(alphabet, k=period))
    return (cell * (PAGE // period + 1))[:PAGE]


@st.composite
def pairs(draw: st.DrawFn) -> Pair:
    """A page and its base: unrelated, similar, shifted, made of pieces."""
    base = draw(plain_pages())
    kind = draw(st.sampled_from(["unrelated", "similar", "shifted", "pieces"]))
    if kind == "unrelated":
        return draw(plain_pages()), base
    page = bytearray(base)
    if kind == "shifted":
        shift = draw(st.integers(0, PAGE))
        page = page[shift:] + page[:shift]
    elif kind == "pieces":
        random = Random(draw(seeds))
        page.clear()
        while len(page) < PAGE:
            start, size = random.randrange(PAGE), random.randint(1, 100)
            page += base[start : start + size]
        del page[PAGE:]
    for offset, data in draw(
        st.lists(st.tuples(st.integers(0, PAGE - 1), st.binary(min_size=1, max_size=30)))
    ):
        page[offset : offset + len(data)] = data
    return bytes(page[:PAGE]), base
