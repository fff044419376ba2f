"""What becomes of an input."""

from enum import Enum


class Outcome(Enum):
    """What became of an input."""

    ACCEPTED = "accepted"
    DAMAGED = "damaged"
    NOT_ITS = "other format"
    ELSE = "more than here"
    """Not here: a library or tool is missing, a window too large, an image goes on and on."""


Result = tuple[Outcome, str]
"""What became of an input, and what was said of it."""
