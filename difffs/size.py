"""Sizes as people write and read them: ``64M``, ``4G``, ``1.5 GiB``."""

import re

from difffs.errors import UsageError

_UNITS = "KMGTPE"
_PATTERN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGTPE]?)(?:i?B)?\s*\Z", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Return the bytes that ``text`` means; K, M, G, T are powers of 1024. ``UsageError``."""
    match = _PATTERN.match(text)
    if not match:
        raise UsageError(f"{text!r} is no size: write bytes or a number with K, M, G or T")
    number, unit = match.groups()
    factor = 1024 ** (_UNITS.index(unit.upper()) + 1) if unit else 1
    return int(float(number) * factor) if "." in number else int(number) * factor


def format_size(size: float) -> str:
    """Return ``size`` bytes with three digits and a binary unit, e.g. ``1.46 GiB``."""
    if abs(size) < 1024:
        return f"{size:.0f} B"
    for unit in _UNITS:
        size /= 1024
        if abs(size) < 999.5 or unit == _UNITS[-1]:
            break
    digits = 2 if abs(size) < 9.995 else 1 if abs(size) < 99.95 else 0
    return f"{size:.{digits}f} {unit}iB"
