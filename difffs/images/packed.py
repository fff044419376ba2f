"""Images that are compressed as a whole: unpacked on the way in, and read as what is inside."""

from collections.abc import Callable

from difffs.images.assembly import LIKE_BYTES, Assembly
from difffs.images.compression import unpacked
from difffs.images.format import PREFIX_BYTES, Format, NotThisFormat
from difffs.images.plain import read_plain
from difffs.images.source import Source

Choose = Callable[[memoryview], Format | None]
"""(first bytes) -> the format of what begins with them, None for plain memory."""


def packed_format(compression: str, choose: Choose) -> Format:
    """The format of an image in that compression; `choose` says what the image inside is."""

    def read(source: Source, assembly: Assembly) -> None:
        like = bytes(source.peek(LIKE_BYTES))
        inner = source.unpack(b"", unpacked(compression, source.rest(), source))
        assembly.packed(compression, 0, [], like)
        form = choose(inner.peek(PREFIX_BYTES))
        if form is not None and form.anywhere:
            assembly.unusual(
                f"it is a {form.title} inside, which is read from a file only: unpack it first"
            )
            form = None
        if form is not None:
            try:
                form.read(inner, assembly)
                return
            except NotThisFormat as other:
                assembly.unusual(str(other))
        read_plain(inner, assembly)

    return Format(
        name=compression, title="compressed image", matches=lambda _prefix: True, read=read
    )
