"""The native bsdiff for pages against a plain walk with exact arithmetic."""

from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from difffs._kernels import Context
from difffs.codec import Codec
from tests.codec import page_bsdiff_oracle as oracle
from tests.codec.binary_oracle import Encoder
from tests.codec.page_bsdiff_oracle import Triple
from tests.codec.page_pairs import PAGE, Pair, pairs, seeds
from tests.pages import compressible_page, shifted_page, similar_page

CONTEXT = Context()
ENOUGH = PAGE - 64


def encode(page: bytes, base: bytes, limit: int = PAGE) -> bytes | None:
    return CONTEXT.encode(Codec.PAGE_BSDIFF, page, base, limit=limit)


def decode(patch: bytes, base: bytes) -> bytes:
    return CONTEXT.decode(Codec.PAGE_BSDIFF, patch, base)


@st.composite
def triple_lists(draw: st.DrawFn) -> list[Triple]:
    """Anything that makes a page, also what no encoder would think of."""
    random = Random(draw(seeds))
    longest = draw(st.sampled_from([8, 60, 2000, PAGE]))
    made: list[Triple] = []
    left = PAGE
    while left:
        diff = min(random.choice([0, 1, random.randint(0, longest)]), left)
        extra = min(random.choice([0, 1, random.randint(0, longest)]), left - diff)
        if diff + extra:
            here = 2 * PAGE - left
            known = [each.distance for each in made[-3:]]
            distance = random.choice([1, 7, 8, PAGE, here, random.randint(1, here), *known])
            made.append(Triple(diff, extra, distance))
            left -= diff + extra
    return made


def mostly_like(triples: list[Triple], base: bytes, random: Random) -> bytes:
    """A page that the matches of the triples predict, with some other bytes."""
    wrong = random.choice([0.0, 0.02, 0.5])
    u = bytearray(base)
    for triple in triples:
        for _ in range(triple.diff):
            byte = u[-triple.distance]
            u.append(random.randrange(256) if random.random() < wrong else byte)
        u += random.randbytes(triple.extra)
    return bytes(u[PAGE:])


# ----------------------------------------------------------------------------------- round trip


@settings(deadline=None)
@given(pairs())
def test_round_trip(pair: Pair) -> None:
    page, base = pair
    patch = encode(page, base)
    if patch is None:  # longer than the page
        assert len(oracle.encode(page, base)) > ENOUGH
    else:
        assert len(patch) <= PAGE
        assert decode(patch, base) == page


@settings(deadline=None, max_examples=20)
@given(pairs())
def test_the_oracle_decodes_native_patches(pair: Pair) -> None:
    page, base = pair
    patch = encode(page, base)
    if patch is not None:
        assert oracle.decode(patch, base) == page


@settings(deadline=None)
@given(pairs(), st.integers(0, PAGE))
def test_the_limit_is_kept(pair: Pair, limit: int) -> None:
    page, base = pair
    patch = encode(page, base)
    limited = encode(page, base, limit)
    if patch is None or len(patch) > limit:
        assert limited is None
    else:
        assert limited == patch
        assert encode(page, base, len(patch)) == patch
        assert encode(page, base, len(patch) - 1) is None


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(bytes(PAGE), id="zeros"),
        pytest.param(b"\xff" * PAGE, id="ones"),
        pytest.param(Random(1).randbytes(PAGE), id="random"),
        pytest.param(compressible_page(Random(1)), id="realistic"),
        pytest.param((b"abc" * PAGE)[:PAGE], id="periodic"),
    ],
)
def test_an_equal_page_takes_a_handful_of_bytes(page: bytes) -> None:
    patch = encode(page, page)
    assert patch is not None
    assert len(patch) <= 16
    assert decode(patch, page) == page


@pytest.mark.parametrize("size", [1, 4, 8, 17, 100, 127, 1000])
def test_a_changed_stretch_costs_little_more_than_its_bytes(size: int) -> None:
    base = Random(2).randbytes(PAGE)
    page = base[:1500] + Random(3).randbytes(size) + base[1500 + size :]
    patch = encode(page, base)
    assert patch is not None
    assert decode(patch, base) == page
    assert len(patch) <= 1.07 * size + 32


def test_a_shifted_page_costs_little_more_than_the_new_bytes() -> None:
    base = Random(2).randbytes(PAGE)
    page = shifted_page(base, Random(3))
    patch = encode(page, base)
    assert patch is not None
    assert decode(patch, base) == page
    assert len(patch) < 260


def test_what_comes_twice_in_the_page_costs_once() -> None:
    base = Random(2).randbytes(PAGE)
    once = base[:1000] + Random(3).randbytes(500) + base[1500:]
    twice = once[:3000] + once[1000:1500] + once[3500:]
    patches = [encode(page, base) for page in (once, twice)]
    assert patches[0] is not None
    assert patches[1] is not None
    assert len(patches[1]) < len(patches[0]) + 40
    assert decode(patches[1], base) == twice


def test_the_same_change_many_times_costs_little() -> None:
    """What bsdiff is good at: all pointers moved by the same distance."""
    random = Random(4)
    places = random.sample(range(PAGE // 8), 200)
    base, page = bytearray(random.randbytes(PAGE)), bytearray()
    page += base
    for place in places:
        value = int.from_bytes(base[8 * place : 8 * place + 4], "little")
        moved = (value + 0x12340) % (1 << 32)
        page[8 * place : 8 * place + 4] = moved.to_bytes(4, "little")
    patch = encode(bytes(page), bytes(base))
    other = CONTEXT.encode(Codec.ZSTD_PREFIX, bytes(page), bytes(base), 19)
    assert patch is not None
    assert other is not None
    assert decode(patch, bytes(base)) == page
    assert len(patch) < len(other) / 2


def test_realistic_pages_become_smaller_than_with_zstd() -> None:
    random = Random(5)
    ours, theirs = 0, 0
    for _ in range(40):
        base = compressible_page(random)
        page = similar_page(base, random, random.choice([2, 20, 100]))
        ours += len(encode(page, base) or bytes(PAGE))
        theirs += len(CONTEXT.encode(Codec.ZSTD_PREFIX, page, base, 1) or bytes(PAGE))
    assert ours < theirs


# ------------------------------------------------------------------------------------- decoding


@settings(deadline=None, max_examples=30)
@given(pairs())
def test_native_decodes_the_oracles_patches(pair: Pair) -> None:
    page, base = pair
    assert decode(oracle.encode(page, base), base) == page


@settings(deadline=None, max_examples=8)
@given(triple_lists(), seeds)
def test_native_decodes_any_triples(triples: list[Triple], seed: int) -> None:
    random = Random(seed)
    base = random.choice([random.randbytes(PAGE), compressible_page(random), bytes(PAGE)])
    page = mostly_like(triples, base, random)
    patch = oracle.assemble(triples, page, base)
    assert oracle.decode(patch, base) == page
    assert decode(patch, base) == page


def test_a_match_may_read_what_it_has_just_made() -> None:
    base = Random(6).randbytes(PAGE)
    triples = [Triple(0, 3), Triple(PAGE - 3, 0, 3)]
    page = (b"xyz" * PAGE)[:PAGE]
    patch = oracle.assemble(triples, page, base)
    assert decode(patch, base) == page
    assert len(patch) < 20


# ------------------------------------------------------------------------------ malformed bytes


def numbers(*known: tuple[str, int]) -> bytes:
    """The code of a patch's first numbers."""
    encoder = Encoder()
    walk = oracle.Walk(encoder, bytes(PAGE), None)
    for name, number in known:
        walk.number(name, number)
    return encoder.code()


@pytest.mark.parametrize(
    "patch",
    [
        pytest.param(numbers(("diff", PAGE + 1), ("extra", 0)), id="a match beyond the page"),
        pytest.param(numbers(("diff", 32767), ("extra", 32767)), id="the largest numbers"),
        pytest.param(numbers(("diff", PAGE), ("extra", 1)), id="extra bytes beyond the page"),
        pytest.param(numbers(("diff", 0), ("extra", PAGE + 1)), id="too many extra bytes"),
        pytest.param(numbers(("diff", 0), ("extra", 0)), id="a triple of nothing"),
        pytest.param(numbers(("diff", 1), ("extra", 0), ("seek", PAGE)), id="a match with itself"),
        pytest.param(numbers(("diff", 1), ("extra", 0), ("seek", 32767)), id="far behind"),
        pytest.param(b"\xff" * 40, id="ones"),
    ],
)
def test_malformed_patches_are_refused(patch: bytes) -> None:
    if patch:
        with pytest.raises(oracle.MalformedError):
            oracle.decode(patch, bytes(PAGE))
    with pytest.raises(ValueError, match=r"malformed|empty"):
        decode(patch, bytes(PAGE))


@pytest.mark.parametrize("more", [b"\x00", bytes(9), b"\x01" * 9])
def test_bytes_behind_a_patch_are_refused(more: bytes) -> None:
    base = compressible_page(Random(1))
    patch = encode(similar_page(base, Random(2)), base)
    assert patch is not None
    with pytest.raises(ValueError, match="malformed"):
        decode(patch + more, base)


def assert_same_verdict(patch: bytes, base: bytes) -> None:
    """Both decoders refuse the bytes, or both make the same page of them."""
    try:
        expected = oracle.decode(patch, base)
    except oracle.MalformedError:
        with pytest.raises(ValueError, match=r"malformed|empty"):
            decode(patch, base)
    else:
        assert decode(patch, base) == expected


@settings(deadline=None, max_examples=40)
@given(
    pairs(),
    st.lists(st.tuples(st.integers(0, PAGE), st.integers(1, 255)), max_size=5),
    st.integers(-20, 20),
)
def test_mutated_patches_are_judged_as_the_oracle_does(
    pair: Pair, changes: list[tuple[int, int]], longer: int
) -> None:
    page, base = pair
    patch = bytearray(encode(page, base) or Random(len(changes)).randbytes(PAGE))
    for place, change in changes:
        patch[place % len(patch)] ^= change
    resized = patch[:longer] if longer < 0 else patch + bytes(range(longer))
    if resized:
        assert_same_verdict(bytes(resized), base)


@settings(deadline=None, max_examples=60)
@given(st.binary(min_size=1, max_size=64))
@example(b"\x00\x00\x00")
@example(b"\x80")
def test_noise_is_judged_as_the_oracle_does(noise: bytes) -> None:
    assert_same_verdict(noise, bytes(range(256)) * 16)
