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
    codecs: tuple[GroupCodec, ...]
    """That its groups may have; the first is for those without a dictionary."""
    level: int
    """Of zstd."""
    pages: int
    """In a group."""
    budget: int
    """Groups that 256 objects in a row, 1 MiB of a volume as it was stored, are in at most."""
    region: int
    """Objects in a row within which likeness decides over place also where it is weak."""

    @property
    def codec(self) -> GroupCodec:
        """That of groups without a dictionary."""
        return self.codecs[0]


COLD = Tier(
    "cold",
    1,
    (GroupCodec.ZSTD, GroupCodec.ZSTD_DICTIONARY),
    level=16,
    pages=16,
    budget=128,
    region=1 << 10,
)
"""A page takes some tens of microseconds."""
REST = Tier("rest", 2, (GroupCodec.LZMA,), level=0, pages=64, budget=128, region=1 << 14)
"""A page takes some milliseconds."""
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
