"""Pages for Hypothesis: the orderly, the realistic and the hostile."""

from random import Random

from hypothesis import strategies as st

from tests.pages import PAGE, compressible_page, random_page, shifted_page, similar_page

seeds = st.integers(0, 2**32 - 1)


@st.composite
def periodic_pages(draw: st.DrawFn) -> bytes:
    """A short cell over and over; the last repetition may be cut off."""
    cell = draw(st.binary(min_size=1, max_size=40))
    return (cell * (PAGE // len(cell) + 1))[:PAGE]


@st.composite
def sparse_pages(draw: st.DrawFn) -> bytes:
    """One word almost everywhere."""
    page = bytearray(draw(st.binary(min_size=8, max_size=8)) * (PAGE // 8))
    for place in draw(st.lists(st.integers(0, PAGE - 1), max_size=4)):
        page[place] ^= draw(st.integers(1, 255))
    return bytes(page)


def pages() -> st.SearchStrategy[bytes]:
    """Any kind of page."""
    return st.one_of(
        seeds.map(lambda seed: compressible_page(Random(seed))),
        sparse_pages(),
        periodic_pages(),
        seeds.map(lambda seed: random_page(Random(seed))),
        st.integers(0, 255).map(lambda value: bytes([value]) * PAGE),
    )


@st.composite
def pairs(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A page and its base: equal, similar, out of step, or strangers."""
    base = draw(pages())
    kind = draw(st.sampled_from(["similar", "shifted", "equal", "stranger"]))
    if kind == "stranger":
        return draw(pages()), base
    if kind == "equal":
        return bytes(bytearray(base)), base  # zstd wants the prefix in another buffer
    random = Random(draw(seeds))
    if kind == "shifted":
        return shifted_page(base, random), base
    return similar_page(base, random, draw(st.integers(1, 200))), base


@st.composite
def damaged(draw: st.DrawFn, payload: bytes) -> bytes:
    """The payload cut, lengthened or with bytes changed; perhaps by chance the same."""
    data = bytearray(payload)
    for _ in range(draw(st.integers(1, 3))):
        how = draw(st.sampled_from(["cut", "flip", "flip", "insert", "append"]))
        place = draw(st.integers(0, max(0, len(data) - 1)))
        if how == "cut":
            del data[place : place + draw(st.integers(1, 64))]
        elif how == "insert":
            data[place:place] = draw(st.binary(min_size=1, max_size=16))
        elif how == "append":
            data += draw(st.binary(min_size=1, max_size=16))
        elif data:
            data[place] ^= draw(st.integers(1, 255))
    return bytes(data)
