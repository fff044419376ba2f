"""The Burrows-Wheeler transform and move-to-front in plain Python: sorts whole rows."""


def bwt(block: bytes) -> tuple[bytes, int]:
    """The bytes before the sorted suffixes, and the row of the whole block, less one."""
    suffixes = sorted(range(len(block)), key=lambda start: block[start:])
    last = block[-1:] + bytes(block[start - 1] for start in suffixes if start)
    return last, suffixes.index(0)


def inverse_bwt(transformed: bytes, row: int) -> bytes | None:
    """The block, by sorting the last column into the first; None when there is none."""
    if not 0 <= row < len(transformed):
        return None
    marked = [*transformed[: row + 1], -1, *transformed[row + 1 :]]
    # stable, the end mark first: place k of the first column came from place `first[k]`
    first = sorted(range(len(marked)), key=lambda place: marked[place])
    block = bytearray()
    here = first[0]
    while len(block) < len(transformed):
        here = first[here]
        byte = marked[here]
        if byte < 0:
            return None
        block.append(byte)
    return bytes(block)


def move_to_front(data: bytes) -> bytes:
    recent = list(range(256))
    ranks = bytearray()
    for byte in data:
        ranks.append(recent.index(byte))
        recent.insert(0, recent.pop(ranks[-1]))
    return bytes(ranks)


def inverse_move_to_front(ranks: bytes) -> bytes:
    recent = list(range(256))
    data = bytearray()
    for rank in ranks:
        recent.insert(0, recent.pop(rank))
        data.append(recent[0])
    return bytes(data)
