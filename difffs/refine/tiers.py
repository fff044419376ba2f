"""Tiers: how densely groups are packed, and what reading a page of one takes."""

from dataclasses import dataclass

from difffs.codec import GroupCodec
from difffs.errors import UsageError


@dataclass(frozen=True, slots=True)
class Tier:
    """One way to pack groups."""

    name: str
    number: int
    """As noted in headers of extents: what was refined to it is fresh for a higher one only."""
    description: str
    codec: GroupCodec
    level: int
    """Of zstd."""
    pages: int
    """In a group."""


COLD = Tier(
    "cold",
    1,
    "groups of 16 by zstd 16: a page takes some tens of microseconds",
    GroupCodec.ZSTD,
    16,
    pages=16,
)
REST = Tier(
    "rest",
    2,
    "groups of 64 by LZMA: a page takes some milliseconds",
    GroupCodec.LZMA,
    0,
    pages=64,
)
UNDER_WAY = 3
"""Noted in headers of extents whose objects are looked at right now; after a crash they are
fresh."""

TIERS = {tier.name: tier for tier in (COLD, REST)}


def tier_named(name: str) -> Tier:
    """The tier of that name; UsageError lists the names when there is none."""
    try:
        return TIERS[name]
    except KeyError:
        raise UsageError(f"no tier {name!r}; there are: {', '.join(TIERS)}") from None
