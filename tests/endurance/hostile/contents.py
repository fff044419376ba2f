"""Pages that a guest may write to make others' work dear, each kind a function of its seed."""

import random
import struct
from collections.abc import Callable

from difffs import _kernels

PAGE = 4096
_WINDOW = 512


def colliding_tails(seed: int, pages: int) -> list[bytes]:
    """Pages of which all share the upper 8 of the digest's low 32 bits, which the table looks at
    first, and some all 32 of them: those come first. Found by search."""
    page = bytearray(random.Random(seed).randbytes(PAGE))
    found: dict[int, bytes] = {}
    pairs: list[bytes] = []
    alike: list[bytes] = []
    for number in range(256 * pages):
        struct.pack_into("<Q", page, 0, number)
        tail = _kernels.digest(page) & 0xFFFFFFFF
        if tail >> 24 == seed & 0xFF:
            made = bytes(page)
            if tail in found:
                pairs += [found[tail], made]
            found[tail] = made
            alike.append(made)
    return [*pairs, *alike][:pages]


def tail_pairs(seed: int, tries: int) -> list[tuple[bytes, bytes]]:
    """Pairs of different pages with the same low 32 bits of the digest; by the birthday paradox
    ``tries`` squared by 2**33 of them."""
    page = bytearray(random.Random(seed).randbytes(PAGE))
    seen: dict[int, int] = {}
    found: list[tuple[bytes, bytes]] = []
    for number in range(tries):
        struct.pack_into("<Q", page, 0, number)
        tail = _kernels.digest(page) & 0xFFFFFFFF
        if tail in seen:
            other = bytearray(page)
            struct.pack_into("<Q", other, 0, seen[tail])
            found.append((bytes(other), bytes(page)))
        seen[tail] = number
    return found


def one_sketch(seed: int, pages: int) -> list[bytes]:
    """Noise in which three quarters of a page are everybody's: of any two sketches two features or
    more, of four, are the same."""
    source = random.Random(seed)
    common = source.randbytes(PAGE)
    wanted = _kernels.sketch(1, common)
    found: list[bytes] = []
    while len(found) < pages:
        made = bytearray(common)
        start = source.randrange(0, PAGE - 1024, 8)
        made[start : start + 1024] = source.randbytes(1024)
        if sum(map(int.__eq__, _kernels.sketch(1, made), wanted)) >= 3:
            found.append(bytes(made))
    return found


def one_base(seed: int, pages: int) -> list[bytes]:
    """Patches against one page, many times what a base may have."""
    source = random.Random(seed)
    base = source.randbytes(PAGE)
    found = [base]
    while len(found) < pages:
        at = source.randrange(PAGE - 16)
        found.append(base[:at] + source.randbytes(16) + base[at + 16 :])
    return found


def one_page(seed: int, pages: int) -> list[bytes]:
    """The same page, more often than one object may be referred to."""
    return [random.Random(seed).randbytes(PAGE)] * pages


def chain(seed: int, pages: int) -> list[bytes]:
    """Each page much like the one before, and soon like none of those before that."""
    source = random.Random(seed)
    page = bytearray(source.randbytes(PAGE))
    found: list[bytes] = []
    for number in range(pages):
        at = number * _WINDOW % PAGE
        page[at : at + _WINDOW] = source.randbytes(_WINDOW)
        found.append(bytes(page))
    return found


def all_bases(seed: int, pages: int) -> list[bytes]:
    """Every page is the base of one other, which comes a while later."""
    source = random.Random(seed)
    half = [source.randbytes(PAGE) for _ in range(pages // 2)]
    return half + [page[:2000] + source.randbytes(16) + page[2016:] for page in half]


KINDS: dict[str, tuple[Callable[[int, int], list[bytes]], int]] = {
    "colliding-tails": (colliding_tails, 1500),
    "one-sketch": (one_sketch, 2000),
    "one-base": (one_base, 3000),
    "one-page": (one_page, 33_000),
    "chain": (chain, 2000),
    "all-bases": (all_bases, 4000),
}
"""Each kind, and how many pages of it a trial writes."""
