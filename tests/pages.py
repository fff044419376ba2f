"""Synthetic memory pages for tests: seeded, compressible and alike as a guest's pages are.

Everything is a function of a `random.Random`, so the same seed gives the same pages for ever:

    guest_memory(seed=1, pages=1000)      # one bytes object, all kinds of pages mixed
    compressible_page(Random(7))          # one page of structures, pointers and text
    similar_page(page, Random(8))         # the page with a few words changed
"""

from random import Random

PAGE = 4096
WORDS = PAGE // 8

_VOCABULARY = b"the page swap node inode kernel buffer cache lock /usr/lib .so.6".split()

_KINDS = ("zero", "count", "pointer", "text", "noise")
_WEIGHTS = (38, 20, 24, 12, 6)


def random_page(random: Random) -> bytes:
    """A page that no codec makes smaller."""
    return random.randbytes(PAGE)


def same_filled_page(random: Random) -> bytes:
    """One 8-byte word over and over; never zero."""
    return random.randrange(1, 1 << 64).to_bytes(8, "little") * WORDS


def compressible_page(random: Random) -> bytes:
    """Records of counts, pointers, text and zeros; zstd 1 takes it to about a quarter."""
    heap = random.getrandbits(28) << 12 | 0xFFFF_8880_0000_0000
    words = []
    for kind in random.choices(_KINDS, _WEIGHTS, k=WORDS):
        if kind == "zero":
            words.append(bytes(8))
        elif kind == "count":
            words.append(random.getrandbits(6).to_bytes(8, "little"))
        elif kind == "pointer":
            words.append((heap + 64 * random.getrandbits(6)).to_bytes(8, "little"))
        elif kind == "text":
            words.append((random.choice(_VOCABULARY) + b" " * 8)[:8])
        else:
            words.append(random.randbytes(8))
    return b"".join(words)


def similar_page(base: bytes, random: Random, changed_words: int = 12) -> bytes:
    """The page with that many of its 512 words changed, in a few short runs."""
    page = bytearray(base)
    while changed_words > 0:
        run = min(random.randint(1, 4), changed_words)
        start = random.randrange(WORDS - run + 1)
        page[8 * start : 8 * (start + run)] = random.randbytes(8 * run)
        changed_words -= run
    return bytes(page)


def shifted_page(base: bytes, random: Random) -> bytes:
    """The page moved by some bytes, a few new ones in front: the same content, out of step."""
    shift = random.randint(1, 200)
    return random.randbytes(shift) + base[:-shift]


def guest_pages(random: Random, pages: int) -> list[bytes]:
    """Pages as a guest has them: a quarter zero, some equal, many similar, few random."""
    made: list[bytes] = []
    families: list[bytes] = []
    for kind in random.choices(
        ("zero", "same", "equal", "similar", "shifted", "new", "random"),
        (24, 3, 12, 26, 2, 28, 5),
        k=pages,
    ):
        if kind == "zero":
            made.append(bytes(PAGE))
        elif kind == "same":
            made.append(same_filled_page(random))
        elif kind == "equal" and made:
            made.append(random.choice(made))
        elif kind == "similar" and families:
            made.append(similar_page(random.choice(families), random, random.randint(1, 60)))
        elif kind == "shifted" and families:
            made.append(shifted_page(random.choice(families), random))
        elif kind == "random":
            made.append(random_page(random))
        else:
            made.append(compressible_page(random))
            families.append(made[-1])
    return made


def guest_memory(seed: int, pages: int) -> bytes:
    """The pages of guest_pages as one image; about 10,000 pages a second."""
    return b"".join(guest_pages(Random(seed), pages))
