"""An image's bytes, front to back: what a reader of a format reads from.

A source never goes back and holds a bounded window of bytes, so that files, devices and pipes are
read the same way. What comes from outside is never trusted: whoever wants a number of bytes gets
exactly as many, or ``ImageDamaged`` with the offset where they should have been.
"""

from collections.abc import Callable, Iterator

import xxhash

from difffs.errors import ImageDamaged

LOOKAHEAD = 1 << 20
"""Bytes that can always be looked at before they are taken, if the image has so many."""

PositionedRead = Callable[[int, int], bytes]
"""(offset, count) -> bytes, fewer at the end: for formats whose parts lie in no order."""


class Source:
    """A stream of bytes with a window to look ahead in. Views are valid until the next call."""

    def __init__(
        self,
        chunks: Iterator[memoryview] | Iterator[bytes],
        *,
        name: str = "image",
        size: int | None = None,
        read_at: PositionedRead | None = None,
    ) -> None:
        """`chunks` are the bytes in order, in pieces of any length; a piece is done with before the
        next is asked for. `size` is what is known of the length; `read_at` reads anywhere, where
        the image is a file.
        """
        self.name = name
        self.size = size
        self.read_at = read_at
        self.position = 0
        """Offset of the next byte in the image."""
        self.unpacked: Source | None = None
        """What unpack() has made of it."""
        self._digest = xxhash.xxh3_128()
        self._chunks: Iterator[memoryview] | Iterator[bytes] = chunks
        self._window = memoryview(b"")
        self._ended = False

    def _fill(self, count: int) -> None:
        """Has the window hold `count` bytes, or all that is left."""
        if len(self._window) >= count or self._ended:
            return
        parts = [bytes(self._window)]
        length = len(self._window)
        while length < count:
            chunk = next(self._chunks, None)
            if chunk is None:
                self._ended = True
                break
            view = memoryview(chunk)
            self._digest.update(view)
            if not length:
                self._window = view
                if len(view) >= count:
                    return
            # The next chunk may lie where this one does.
            parts.append(bytes(view))
            length += len(view)
        self._window = memoryview(b"".join(parts))

    def unpack(self, head: bytes, chunks: Iterator[memoryview] | Iterator[bytes]) -> "Source":
        """The source of the unpacked form of a compressed image: `head`, which counts as taken,
        and what the decompressor gives. From here on this is what the image is."""
        inner = Source(chunks, name=self.name)
        inner._digest.update(head)
        inner.position = len(head)
        self.unpacked = inner
        return inner

    @property
    def digest(self) -> str:
        """xxh3-128 in hexadecimal of all bytes so far: of the image, once its end has come."""
        return self._digest.hexdigest()

    @property
    def at_end(self) -> bool:
        """Whether no byte is left."""
        self._fill(1)
        return not self._window

    def peek(self, count: int) -> memoryview:
        """The next `count` bytes (LOOKAHEAD at most) without taking them, fewer at the end."""
        if count > LOOKAHEAD:
            raise ValueError(f"{count} bytes are more than can be looked ahead at")
        self._fill(count)
        return self._window[:count]

    def window(self, least: int = 1) -> memoryview:
        """All bytes that are at hand, without taking them: `least` (LOOKAHEAD at most) or more,
        fewer at the end. For readers that work through many small records at once."""
        if least > LOOKAHEAD:
            raise ValueError(f"{least} bytes are more than can be looked ahead at")
        self._fill(least)
        return self._window

    def skip(self, count: int) -> None:
        """Takes bytes that have been looked at."""
        if count > len(self._window):
            raise ValueError("skips what it has not looked at")
        self._window = self._window[count:]
        self.position += count

    def take(self, count: int, what: str) -> memoryview:
        """The next `count` bytes (LOOKAHEAD at most), taken; ImageDamaged when there are fewer.

        `what` says what should be there, as in "the section's header".
        """
        view = self.peek(count)
        if len(view) < count:
            raise self.damaged(f"it ends within {what}, which has {count:,} bytes")
        self.skip(count)
        return view

    def pieces(self, count: int, what: str) -> Iterator[memoryview]:
        """Takes `count` bytes, any number, in pieces; ImageDamaged when there are fewer."""
        left = count
        while left:
            self._fill(1)
            piece = self._window[:left]
            if not piece:
                raise self.damaged(
                    f"it ends within {what}: {left:,} of {count:,} bytes are missing"
                )
            self.skip(len(piece))
            left -= len(piece)
            yield piece

    def rest(self) -> Iterator[memoryview]:
        """Takes all that is left, in pieces."""
        while not self.at_end:
            piece = self._window
            self.skip(len(piece))
            yield piece

    def damaged(self, text: str, position: int | None = None) -> ImageDamaged:
        """The error of an image that does not hold together at a position (where it stands)."""
        at = self.position if position is None else position
        return ImageDamaged(
            f"image {self.name} is damaged or cut off at {at:,}: {text};"
            " get it anew, or store it --as-is"
        )
