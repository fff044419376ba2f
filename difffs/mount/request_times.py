"""How long the requests of the kernel take that this process answers, and which of them fail.

They are measured natively, from when they are read to when they are answered (native/answering.c).
"""

from typing import Any

from difffs.mount import _answering

KINDS = ("page_read", "short_read", "long_read", "write", "sync", "other")
"""Reads by the pages asked for: 1 at most, 2 to 8, more. In the order of native/request_times.h."""

FAILURES = ("EIO", "ENOSPC")
"""Failures that are counted: those that lose or refuse data. In the same order."""


def request_statistics() -> dict[str, Any]:
    """Return what `stats --json` has of the requests so far; times in microseconds.

    Empty where libfuse does not take our input and output (before 3.13). It asks for more than one
    thing before it can be asked for statistics, so no requests mean that.
    """
    counts, nanoseconds, failures = _answering.totals()
    if not any(map(any, counts)):
        return {}
    return {
        "request_times": {
            "bounds_us": [bound // 1000 for bound in _answering.time_bounds()],
            "requests": {
                kind: {"count": sum(counted), "us": total // 1000, "counts": counted}
                for kind, counted, total in zip(KINDS, counts, nanoseconds, strict=True)
            },
        },
        "failed_requests": dict(zip(FAILURES, failures, strict=True)),
    }
