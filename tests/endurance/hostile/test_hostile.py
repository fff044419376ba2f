"""One seed of each kind of hostile contents, and that they are what they are said to be."""

from pathlib import Path

import pytest

from difffs import _kernels
from tests.endurance.hostile.contents import KINDS, chain, one_base, one_sketch, tail_pairs
from tests.endurance.hostile.throughput import measure
from tests.endurance.hostile.trial import bounds, try_kind
from tests.integration.harness import mounted_store, obstacle
from tests.stores import OpenStore, scratch


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_hostile_pages_are_right_and_cost_little(kind: str) -> None:
    with scratch() as folder:
        cost = try_kind(folder, kind, seed=1)
    if kind == "one-page":
        # 15,359 pages an object, and no more
        assert cost.objects == -(-cost.pages // 15_359)
    assert bounds("default") == (12, 2)


def test_pages_with_one_tail_are_told_apart(tmp_path: Path) -> None:
    """The low 32 bits of the digest are all that the table may know."""
    pairs = tail_pairs(seed=1, tries=300_000)
    assert pairs
    with OpenStore(tmp_path / "store") as one:
        volume = one.new_volume("pairs", 2 * len(pairs))
        for number, pair in enumerate(pairs):
            assert pair[0] != pair[1]
            assert len({_kernels.digest(page) & 0xFFFFFFFF for page in pair}) == 1
            for which, page in enumerate(pair):
                one.write(volume, 2 * number + which, page)
        for number, pair in enumerate(pairs):
            assert one.read(volume, 2 * number, 2) == b"".join(pair)
        assert one.store.object_count() == 2 * len(pairs)
        one.assert_clean()


def test_the_kinds_are_what_they_are_said_to_be() -> None:
    sketches = [_kernels.sketch(1, page) for page in one_sketch(2, 50)]
    assert all(sum(map(int.__eq__, one, sketches[0])) >= 2 for one in sketches)
    base, *others = one_base(2, 600)
    assert all(sum(map(int.__ne__, base, other)) <= 16 for other in others)
    pages = chain(2, 20)
    assert sum(map(int.__eq__, pages[0], pages[1])) >= 4096 - 512
    assert sum(map(int.__eq__, pages[0], pages[9])) < 64


@pytest.mark.slow
@pytest.mark.integration
def test_a_volume_beside_a_hostile_one_goes_on() -> None:
    """How fast is told by scripts/endurance hostile --throughput: here only that both work."""
    if (reason := obstacle()) is not None:
        pytest.skip(reason)
    with mounted_store() as mounted:
        for victim, other in [("writes", "writes one-base"), ("reads", "discards")]:
            share = measure(mounted.path, victim, other, seconds=0.3, rounds=2)
            assert min(share.alone, share.together, share.share) > 0
