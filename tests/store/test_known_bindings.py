"""What is known of the index's bindings, against a plain model."""

from random import Random
from struct import pack

import pytest

from difffs.store.bindings import Kind
from difffs.store.known_bindings import KnownBindings

_CHANGES = 3000


def _bound(known: int) -> bytes:
    return pack("<Q", known) + b"summary"


def _key(random: Random) -> tuple[Kind, bytes]:
    if random.random() < 0.4:
        return Kind.EXTENT, pack(">I", random.randrange(1, 60))
    return Kind.TABLE, pack(">II", random.randrange(1, 4), random.choice((0, 1, 2, 9, 1 << 30)))


@pytest.mark.parametrize("seed", range(5))
def test_commits_that_succeed_and_fail(seed: int) -> None:
    random, known = Random(seed), KnownBindings()
    model: dict[tuple[Kind, bytes], bytes] = {}
    for _ in range(50):
        kind, key = _key(random)
        model[kind, key] = _bound(random.randrange(1, 1 << 64))
        known.found(kind, key, model[kind, key])
    coming: dict[tuple[Kind, bytes], bytes | None] = {}
    for _ in range(_CHANGES):
        kind, key = _key(random)
        bound = _bound(random.randrange(1, 1 << 64)) if random.random() < 0.6 else None
        coming[kind, key] = bound
        known.will_be(kind, key, bound)
        assert known.agrees(kind, key, model.get((kind, key)))
        if random.random() < 0.05:
            known.forget_coming()
            coming.clear()
        elif random.random() < 0.1:
            known.follow()  # nothing was made
            known.made()
            assert known.agrees(kind, key, model.get((kind, key)))
            known.follow()
            for each, what in coming.items():
                model.pop(each, None)
                if what is not None:
                    model[each] = what
            coming.clear()
        kind, key = _key(random)
        assert known.agrees(kind, key, model.get((kind, key)))
        assert not known.agrees(kind, key, _bound(0x77))
        assert known.agrees(kind, key, None) == ((kind, key) not in model)
        volume, first = random.randrange(1, 5), random.choice((0, 2, 10))
        assert list(known.chunks_from(volume, first)) == sorted(
            int.from_bytes(key[4:])
            for kind, key in model
            if kind is Kind.TABLE
            and int.from_bytes(key[:4]) == volume
            and int.from_bytes(key[4:]) >= first
        )


def test_other_kinds_are_not_looked_at() -> None:
    known = KnownBindings()
    known.found(Kind.SETTING, b"recipe", _bound(1))
    known.will_be(Kind.INODE, pack(">I", 1), _bound(2))
    known.made()
    known.follow()
    assert known.agrees(Kind.SETTING, b"recipe", _bound(3))
    assert known.agrees(Kind.INODE, pack(">I", 1), None)
