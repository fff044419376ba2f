"""Raw memory whose pages are shifted."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difffs.images import shifted
from difffs.images.format import NotThisFormat
from difffs.images.source import Source
from tests.images.sparse_assembly import SparseAssembly, assembled, chunks

PAGE = 4096
ZEROS = bytes(PAGE)


def memory(pages: int, seed: int) -> bytes:
    """Pages as a guest has them: content at their start, zeros behind it; every other is zeros."""
    words = random.Random(seed)
    out = []
    for index in range(pages):
        content = words.randbytes(words.randrange(100, PAGE)) if index % 2 else b""
        out.append(content.replace(b"\0", b"\1").ljust(PAGE, b"\0"))
    return b"".join(out)


def dump(guest: bytes, first_end: int = 0x9FC00) -> bytes:
    """LiME's raw dump of a PC with that memory: what does not fill a page is zeros there."""
    whole = first_end // PAGE * PAGE
    return guest[0x1000:whole] + bytes(first_end - whole) + guest[0x100000:]


def read(image: bytes, *, size: bool = True, seekable: bool = True) -> SparseAssembly:
    """What the reader makes of an image of known length, or of one from a pipe."""
    source = Source(
        chunks(image, 1 << 20),
        size=len(image) if size else None,
        read_at=(lambda offset, count: image[offset : offset + count]) if seekable else None,
    )
    assembly = SparseAssembly()
    shifted.FORMAT.read(source, assembly)
    assert assembly.file == image
    return assembly


def pages_of(assembly: SparseAssembly) -> set[bytes]:
    """The pages that the memory has, but for zeros."""
    content = assembly.content(0, assembly.lengths[0])
    return {content[at : at + PAGE] for at in range(0, len(content), PAGE)} - {ZEROS}


@pytest.mark.parametrize("first_end", [0x9FC00, 0x9F800, 0x9F400, 0x9EC00])
def test_a_file(first_end: int) -> None:
    """The pages are the guest's, but for those around a first range that ends early."""
    guest = memory(2048, 1)
    image = dump(guest, first_end)
    assembly = read(image)
    assert assembly.facts["shifts"] == 1
    own = {guest[at : at + PAGE] for at in range(0, len(guest), PAGE)}
    strange = pages_of(assembly) - own
    assert len(strange) <= 3
    assert len(pages_of(assembly)) > 850


def test_a_pipe() -> None:
    """Found out on the way: what came before stays where it was."""
    guest = memory(4096, 2)
    assembly = read(dump(guest), size=False, seekable=False)
    assert assembly.facts["shifts"] == 1
    own = {guest[at : at + PAGE] for at in range(0, len(guest), PAGE)}
    assert len(pages_of(assembly) & own) > 0.8 * len(own)


def test_pages_that_shift_again() -> None:
    """A second range that ends within a page, after some MiB."""
    guest = memory(16384, 3)
    image = dump(guest) + bytes(1024) + memory(10240, 4)
    assembly = read(image, size=False, seekable=False)
    assert assembly.facts["shifts"] == 2


@pytest.mark.parametrize(
    "image",
    [
        memory(1024, 5),
        memory(1024, 5) + bytes(1024),
        memory(1024, 5) + bytes(5),
        random.Random(6).randbytes((4 << 20) + 1024),
        bytes((4 << 20) + 1024),
        b"".join(random.Random(at).randbytes(400).ljust(512, b"\0") for at in range(8194)),
        bytes(1024),
    ],
    ids=["raw", "raw and a tail", "odd", "noise", "zeros", "an archive", "short"],
)
def test_what_is_something_else(image: bytes) -> None:
    with pytest.raises(NotThisFormat):
        read(image)


def test_nothing_matches_by_its_first_bytes() -> None:
    assert not shifted.FORMAT.matches(memoryview(dump(memory(512, 1)))[:65536])


def test_raw_memory_from_a_pipe_is_left_as_it_is() -> None:
    guest = memory(2048, 7)
    assembly = read(guest, size=False, seekable=False)
    assert assembly.facts["shifts"] == 0
    assert assembly.content(0, len(guest)) == guest


@given(st.binary(max_size=3000), st.sampled_from([1, 97, 4096]))
@settings(deadline=None)
def test_any_bytes_from_a_pipe(image: bytes, chunk: int) -> None:
    assert assembled(shifted.FORMAT, image, chunk=chunk).file == image
