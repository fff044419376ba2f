"""Durations as people write them: ``90``, ``90s``, ``10m``, ``2h``."""

import re

from difffs.errors import UsageError

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}
_PATTERN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*\Z", re.IGNORECASE)


def parse_duration(text: str) -> float:
    """Return the seconds that ``text`` means, above 0. ``UsageError``."""
    match = _PATTERN.match(text)
    if not match or not float(match[1]):
        raise UsageError(f"{text!r} is no duration: write seconds or a number with s, m or h")
    return float(match[1]) * _SECONDS[match[2].lower()]
