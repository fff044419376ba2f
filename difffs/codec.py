"""Page codecs: pure functions from (page, base) to payload and back.

The native kernels hold the code (native/codec.c); this names them. Numbers stand in every object
record of a store: they are never reused for another codec.
"""

from enum import IntEnum


class Codec(IntEnum):
    """How a payload was made from its page."""

    NONE = 0
    SAME = 1
    """The repeated 8-byte word."""
    RAW = 2
    ZSTD = 3
    """A zstd frame without magic number and content size."""
    LZ4 = 4
    """An lz4 block: the LZO class, the same speed and size within a few per cent."""
    ZSTD_PREFIX = 5
    """Base id, then a zstd frame that has the base as its prefix."""
    VCDIFF = 6
    """Base id, then the variable part of an RFC 3284 stream (native/vcdiff.h)."""
    ZSTD_DICTIONARY = 7
    """A zstd frame that needs the store's dictionary."""
    XBZRLE = 8
    """Base id, then what QEMU sends of a changed page: runs of equal bytes, and the others."""
    LZ4_PREFIX = 9
    """Base id, then an lz4 block that has the base as its prefix."""
    PAGE_BSDIFF = 10
    """Base id, then a bsdiff made for pages (native/page_bsdiff.h)."""
    BWT_RANGE = 11
    """MTF(BWT(page)) by the adaptive range coder (native/range_coder.h), behind its row."""
    BWT_ZSTD = 12
    """A zstd frame of MTF(BWT(page)), behind its row."""
    BWT_PREFIX = 13
    """Base id, row, a zstd frame of MTF(BWT(page)) that has MTF(BWT(base)) as its prefix."""

    @property
    def is_patch(self) -> bool:
        """Whether decoding needs a base page."""
        return ROUTE_OF_CODEC.get(self) is Route.PATCH


class GroupCodec(IntEnum):
    """What an object is that has to do with a group: a payload of several pages."""

    MEMBER = 14
    """No payload: a page of a group."""
    ZSTD = 15
    """A zstd frame of all pages, one behind the other."""
    LZMA = 16
    """The same by LZMA, without any header."""
    ZSTD_DICTIONARY = 17
    """A zstd frame that needs the store's dictionary of groups."""

    @property
    def is_group(self) -> bool:
        """Whether it has a payload, and so is nobody's page."""
        return self is not GroupCodec.MEMBER


GROUP_CODECS = frozenset(codec for codec in GroupCodec if codec.is_group)


class Route(IntEnum):
    """What became of a page; the order in which a page is tried."""

    ZERO = 0
    SAME = 1
    IDENTICAL = 2
    PATCH = 3
    COMPRESS = 4
    RAW = 5


ROUTE_OF_CODEC: dict[int, Route] = {
    Codec.SAME: Route.SAME,
    Codec.RAW: Route.RAW,
    Codec.ZSTD: Route.COMPRESS,
    Codec.LZ4: Route.COMPRESS,
    Codec.ZSTD_DICTIONARY: Route.COMPRESS,
    Codec.ZSTD_PREFIX: Route.PATCH,
    Codec.VCDIFF: Route.PATCH,
    Codec.XBZRLE: Route.PATCH,
    Codec.LZ4_PREFIX: Route.PATCH,
    Codec.PAGE_BSDIFF: Route.PATCH,
    Codec.BWT_RANGE: Route.COMPRESS,
    Codec.BWT_ZSTD: Route.COMPRESS,
    Codec.BWT_PREFIX: Route.PATCH,
    GroupCodec.MEMBER: Route.COMPRESS,
}
