"""The native XBZRLE codec against a plain one and the example in QEMU's documentation."""

from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from difffs._kernels import Context
from difffs.codec import Codec
from tests.codec import xbzrle_oracle as oracle
from tests.codec.page_pairs import PAGE, Pair, pairs, seeds

CONTEXT = Context()


def encode(page: bytes, base: bytes, limit: int = PAGE) -> bytes | None:
    return CONTEXT.encode(Codec.XBZRLE, page, base, limit=limit)


def decode(patch: bytes, base: bytes) -> bytes:
    return CONTEXT.decode(Codec.XBZRLE, patch, base)


def test_the_example_in_qemus_documentation() -> None:
    """docs/devel/migration/xbzrle.rst, once docs/xbzrle.txt."""
    old = bytes.fromhex("05060708090a0b0c0d0e0f1011121368 00006b006d")
    new = bytes.fromhex("0102030405060708090a0b0c0d0e0f68 0000670069")
    base = (bytes(1001) + old).ljust(PAGE, b"\x00")
    page = (bytes(1001) + new).ljust(PAGE, b"\x00")
    patch = bytes.fromhex("e9070f 0102030405060708090a0b0c0d0e0f 030167 010169")
    assert len(patch) == 24
    assert encode(page, base) == patch
    assert decode(patch, base) == page


@settings(deadline=None)
@given(pairs())
def test_patches_are_the_oracles(pair: Pair) -> None:
    page, base = pair
    expected = oracle.encode(page, base)
    assert encode(page, base) == (expected if len(expected) <= PAGE else None)
    assert decode(expected, base) == page
    assert oracle.decode(expected, base) == page


@settings(deadline=None)
@given(pairs(), st.integers(0, PAGE))
def test_the_limit_is_kept(pair: Pair, limit: int) -> None:
    page, base = pair
    patch = oracle.encode(page, base)
    assert encode(page, base, limit) == (patch if len(patch) <= limit else None)
    if len(patch) <= PAGE:
        assert encode(page, base, len(patch)) == patch
        assert encode(page, base, len(patch) - 1) is None


def test_an_equal_page_is_one_run() -> None:
    page = Random(1).randbytes(PAGE)
    assert encode(page, page) == bytes.fromhex("8020")
    assert decode(bytes.fromhex("8020"), page) == page


@pytest.mark.parametrize("start", [0, 1, 7, 8, 127, 128, 4000])
@pytest.mark.parametrize("size", [1, 7, 8, 9, 63, 96])
def test_one_changed_run(start: int, size: int) -> None:
    base = Random(2).randbytes(PAGE)
    new = bytes(byte ^ 0x55 for byte in base[start : start + size])
    page = base[:start] + new + base[start + size :]
    patch = encode(page, base)
    assert patch == oracle.uleb128(start) + oracle.uleb128(size) + new
    assert decode(patch, base) == page


def test_bytes_that_did_not_change_may_be_sent() -> None:
    """QEMU's senders may choose so, to save time."""
    base = Random(3).randbytes(PAGE)
    patch = oracle.assemble([(3, base[3:9]), (1, b"\x00" * 20), (4000, base[4030:])])
    assert decode(patch, base) == base[:10] + bytes(20) + base[30:]


@pytest.mark.parametrize(
    "patch",
    [
        pytest.param("80", id="a length without its end"),
        pytest.param("808001", id="a length of three bytes"),
        pytest.param("05", id="no run of new bytes"),
        pytest.param("0500", id="an empty run of new bytes"),
        pytest.param("050461", id="fewer new bytes than told"),
        pytest.param("000161 000162", id="an empty run of equal bytes"),
        pytest.param("ff1f02 6161", id="new bytes behind the page"),
        pytest.param("ff3f01 61", id="equal bytes behind the page"),
        pytest.param("802001 61", id="new bytes behind a page of equal bytes"),
        pytest.param("8020 00", id="something behind a page of equal bytes"),
        pytest.param("000161 ff1f", id="equal bytes at the end"),
        pytest.param("000161 05", id="a run that ends early"),
    ],
)
def test_malformed_patches_are_refused(patch: str) -> None:
    base = bytes(PAGE)
    with pytest.raises(oracle.MalformedError):
        oracle.decode(bytes.fromhex(patch), base)
    with pytest.raises(ValueError, match="malformed"):
        decode(bytes.fromhex(patch), base)


def assert_same_verdict(patch: bytes, base: bytes) -> None:
    """Both decoders refuse the bytes, or both make the same page of them."""
    try:
        expected = oracle.decode(patch, base)
    except oracle.MalformedError:
        with pytest.raises(ValueError, match=r"malformed|empty"):
            decode(patch, base)
    else:
        assert decode(patch, base) == expected


@settings(deadline=None)
@given(
    pairs(),
    st.lists(st.tuples(st.integers(0, PAGE), st.integers(1, 255)), max_size=5),
    st.integers(-20, 20),
)
def test_mutated_patches_are_judged_as_the_oracle_does(
    pair: Pair, changes: list[tuple[int, int]], longer: int
) -> None:
    page, base = pair
    patch = bytearray(oracle.encode(page, base))
    for place, change in changes:
        patch[place % len(patch)] ^= change
    resized = patch[:longer] if longer < 0 else patch + bytes(range(longer))
    assert_same_verdict(bytes(resized), base)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 200), st.binary(max_size=9)), max_size=40), seeds)
def test_hostile_runs_are_judged_as_the_oracle_does(
    parts: list[tuple[int, bytes]], seed: int
) -> None:
    assert_same_verdict(oracle.assemble(parts), Random(seed).randbytes(PAGE))


@settings(deadline=None)
@given(st.binary(max_size=64))
@example(b"")
def test_noise_is_judged_as_the_oracle_does(noise: bytes) -> None:
    assert_same_verdict(noise, bytes(range(256)) * 16)
