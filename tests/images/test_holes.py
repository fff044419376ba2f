"""The holes that a composed file's layout knows of."""

from hypothesis import given
from hypothesis import strategies as st

from difffs.images.composed import ComposedFile
from difffs.images.layout import Kind, Layout, Row, pack_row
from difffs.page import PAGE_SIZE

_lengths = st.one_of(
    st.integers(1, 3 * PAGE_SIZE), st.sampled_from([PAGE_SIZE - 1, PAGE_SIZE, 2 * PAGE_SIZE])
)


def _file(parts: list[tuple[bool, int]]) -> ComposedFile:
    """A file of (whether it is zeros, length)."""
    rows, position = bytearray(), 0
    for is_zeros, length in parts:
        kind = Kind.ZEROS if is_zeros else Kind.COPY
        rows += pack_row(Row(position, kind, second=length))
        position += length

    def read(offset: int, out: memoryview) -> None:
        out[:] = rows[offset : offset + len(out)]

    pages = -(-len(rows) // PAGE_SIZE)
    return ComposedFile(Layout(len(parts), position, [(0, pages)], read), read, read)


@given(st.lists(st.tuples(st.booleans(), _lengths), max_size=30), st.floats(0, 1))
def test_the_first_whole_pages_of_zeros_are_the_hole(
    parts: list[tuple[bool, int]], place: float
) -> None:
    file = _file(parts)
    offset = int(place * file.size)
    zeros = b"".join(bytes([is_zeros]) * length for is_zeros, length in parts)
    pages = [all(zeros[at : at + PAGE_SIZE]) for at in range(0, file.size, PAGE_SIZE)]
    start, end = file.hole(offset)
    holes = [at for at in range(offset // PAGE_SIZE, len(pages)) if pages[at]]
    if not holes:
        assert (start, end) == (file.size, file.size)
        return
    behind = next((at for at in range(holes[0], len(pages)) if not pages[at]), None)
    assert start == max(offset, holes[0] * PAGE_SIZE)
    assert end == (file.size if behind is None else behind * PAGE_SIZE)


def test_a_search_ends_after_so_many_rows() -> None:
    parts = [(False, 10)] * 40_000 + [(True, 5 * PAGE_SIZE)]
    file = _file(parts)
    assert file.hole(0) == (file.size, file.size)
    near = 10 * 30_000
    start, end = file.hole(near)
    assert (start, end) == (-(-400_000 // PAGE_SIZE) * PAGE_SIZE, file.size)
