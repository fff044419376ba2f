"""Pages for the clients of an endurance suite: some are the same, most are alike, all tell who
wrote them, where and when."""

from functools import cache
from random import Random

from tests.pages import PAGE, compressible_page, random_page

_STAMP_BYTES = 24


@cache
def _pool() -> list[bytes]:
    random = Random(20)
    return [compressible_page(random) for _ in range(40)] + [random_page(random) for _ in range(4)]


def page_of(random: Random, file: int, page: int, operation: int) -> bytes:
    """One page; of a kind that takes any of the routes."""
    kind = random.random()
    base = random.choice(_pool())
    if kind < 0.06:
        return bytes(PAGE)
    if kind < 0.10:
        return operation.to_bytes(8, "little") * (PAGE // 8)
    if kind < 0.18:
        return base
    stamp = b"".join(number.to_bytes(8, "little") for number in (file, page, operation))
    if kind < 0.34:
        return stamp + random.randbytes(PAGE - _STAMP_BYTES)
    content = bytearray(base)
    content[:_STAMP_BYTES] = stamp
    for _ in range(random.randrange(6)):
        at = random.randrange(_STAMP_BYTES, PAGE - 32)
        content[at : at + 16] = random.randbytes(16)
    return bytes(content)


def pages_of(random: Random, file: int, first: int, count: int, operation: int) -> bytes:
    """Consecutive pages."""
    return b"".join(page_of(random, file, first + index, operation) for index in range(count))
