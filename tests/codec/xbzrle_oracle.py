"""XBZRLE as QEMU documents it: slow, obvious, and the judge of native/xbzrle.c."""

PAGE = 4096
LENGTH_BYTES = 2


class MalformedError(ValueError):
    """The bytes are no patch."""


def uleb128(value: int) -> bytes:
    digits = []
    while value >= 0x80:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


def runs(page: bytes, base: bytes) -> list[tuple[int, bytes]]:
    """How many bytes are equal, and the differing ones behind them."""
    found = []
    here = 0
    while here < PAGE:
        start = here
        while here < PAGE and page[here] == base[here]:
            here += 1
        changed = here
        while here < PAGE and page[here] != base[here]:
            here += 1
        if changed < here:
            found.append((changed - start, page[changed:here]))
    return found


def assemble(parts: list[tuple[int, bytes]]) -> bytes:
    return b"".join(uleb128(equal) + uleb128(len(new)) + new for equal, new in parts)


def encode(page: bytes, base: bytes) -> bytes:
    return assemble(runs(page, base)) or uleb128(PAGE)


def decode(patch: bytes, base: bytes) -> bytes:
    """The page that the patch makes of the base; `MalformedError` when it makes none."""
    if patch == uleb128(PAGE):
        return base
    page = bytearray(base)
    place = at = 0

    def length() -> int:
        nonlocal at
        value = 0
        for digit in range(LENGTH_BYTES):
            if at == len(patch):
                raise MalformedError("a length ends early")
            byte = patch[at]
            at += 1
            value |= (byte & 0x7F) << 7 * digit
            if byte < 0x80:
                return value
        raise MalformedError("a length of more than two bytes")

    while at < len(patch) or place == 0:
        equal, differing = length(), length()
        if (place and not equal) or not differing:
            raise MalformedError("an empty run")
        place += equal
        new = patch[at : at + differing]
        if len(new) < differing or place + differing > PAGE:
            raise MalformedError("a run beyond the patch or the page")
        page[place : place + differing] = new
        place += differing
        at += differing
    return bytes(page)
