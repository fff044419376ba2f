"""Plain memory: every byte is memory, from address 0 on. What is inside a compressed raw image."""

from difffs.images.assembly import Assembly
from difffs.images.source import Source


def read_plain(source: Source, assembly: Assembly) -> None:
    """Tell that all that is left is memory."""
    assembly.details(format="raw")
    assembly.blocks([("memory", 0)], 0)
    end = 0
    for piece in source.rest():
        assembly.grow(0, end + len(piece))
        assembly.memory(0, end, piece)
        end += len(piece)
