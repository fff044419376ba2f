"""Payloads against the `zstandard` and `lz4` packages, limits, and what is no payload."""

import gc
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from random import Random

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from difffs._kernels import Context, Dictionary, train_dictionary
from difffs.codec import Codec
from tests.codec import bwt_oracle, range_oracle
from tests.kernels import kernel_oracle as oracle
from tests.kernels.strategies import damaged, pages, pairs, seeds
from tests.pages import PAGE, compressible_page, random_page, similar_page


def trained(seed: int) -> Dictionary:
    """A dictionary for pages as compressible_page makes them."""
    random = Random(seed)
    content = train_dictionary(b"".join(compressible_page(random) for _ in range(256)), 4096, 1)
    assert content is not None
    return Dictionary(content)


DICTIONARY = trained(77)


def context_with_dictionary() -> Context:
    context = Context()
    context.use(DICTIONARY)
    return context


CONTEXT = context_with_dictionary()
"""One for all tests, so that each also tests what the one before left behind."""

PAYLOAD_CODECS = [codec for codec in Codec if codec is not Codec.NONE]
ZSTD_CODECS = (
    Codec.ZSTD,
    Codec.ZSTD_PREFIX,
    Codec.ZSTD_DICTIONARY,
    Codec.BWT_ZSTD,
    Codec.BWT_PREFIX,
)
CONTEXT_CODECS = (
    *ZSTD_CODECS,
    Codec.LZ4,
    Codec.LZ4_PREFIX,
    Codec.VCDIFF,
    Codec.XBZRLE,
    Codec.PAGE_BSDIFF,
    Codec.BWT_RANGE,
)
"""What uses the context's contexts and scratch space."""
OPEN_ENDED_CODECS = (Codec.XBZRLE, Codec.PAGE_BSDIFF)
"""Their payloads may end early and be another page's: that is for the checksum to find."""
LEVELS = st.sampled_from([-5, -1, 1, 3, 9, 19])

Pair = tuple[bytes, bytes]


def encoded(codec: Codec, page: bytes, base: bytes, level: int = 1) -> bytes | None:
    return CONTEXT.encode(codec, page, base if codec.is_patch else None, level)


def decoded(codec: Codec, payload: bytes, base: bytes) -> bytes:
    return CONTEXT.decode(codec, payload, base if codec.is_patch else None)


# ------------------------------------------------------------------------------------- round trip


@settings(deadline=None)
@given(pairs(), st.sampled_from(PAYLOAD_CODECS), LEVELS)
def test_round_trip(pair: Pair, codec: Codec, level: int) -> None:
    page, base = pair
    payload = encoded(codec, page, base, level)
    if payload is not None:
        assert 0 < len(payload) <= PAGE
        assert decoded(codec, payload, base) == page


@settings(deadline=None, max_examples=60)
@given(pages(), LEVELS)
def test_zstd_payloads_are_magicless_frames(page: bytes, level: int) -> None:
    payload = CONTEXT.encode(Codec.ZSTD, page, None, level)
    theirs = oracle.zstd_encode(page, None, level)
    assert CONTEXT.decode(Codec.ZSTD, theirs) == page
    if payload is None:
        assert len(theirs) > PAGE
    else:
        assert oracle.zstd_decode(payload) == page
        assert abs(len(payload) - len(theirs)) <= 8 + len(theirs) // 20  # another zstd version


@settings(deadline=None, max_examples=60)
@given(pairs(), LEVELS)
def test_zstd_patches_have_the_base_as_prefix(pair: Pair, level: int) -> None:
    page, base = pair
    payload = CONTEXT.encode(Codec.ZSTD_PREFIX, page, base, level)
    theirs = oracle.zstd_encode(page, base, level)
    assert CONTEXT.decode(Codec.ZSTD_PREFIX, theirs, base) == page
    if payload is None:
        assert len(theirs) > PAGE - 100
    else:
        assert oracle.zstd_decode(payload, base) == page


@settings(deadline=None, max_examples=60)
@given(pages())
def test_lz4_payloads_are_lz4_blocks(page: bytes) -> None:
    payload = CONTEXT.encode(Codec.LZ4, page)
    theirs = oracle.lz4_encode(page)
    assert CONTEXT.decode(Codec.LZ4, theirs) == page
    if payload is None:
        assert len(theirs) > PAGE
    else:
        assert oracle.lz4_decode(payload) == page


@settings(deadline=None, max_examples=60)
@given(pairs())
def test_lz4_patches_have_the_base_as_prefix(pair: Pair) -> None:
    page, base = pair
    payload = CONTEXT.encode(Codec.LZ4_PREFIX, page, base)
    theirs = oracle.lz4_encode(page, base)
    assert CONTEXT.decode(Codec.LZ4_PREFIX, theirs, base) == page
    if payload is None:
        assert len(theirs) > PAGE - 100  # another lz4 version
    else:
        assert oracle.lz4_decode(payload, base) == page


def test_an_lz4_patch_does_not_depend_on_where_its_pages_lie() -> None:
    """lz4 has ways of its own for a dictionary that ends where the page begins."""
    base = compressible_page(Random(1))
    page = similar_page(base, Random(2), 40)
    payload = CONTEXT.encode(Codec.LZ4_PREFIX, page, base)
    assert payload is not None
    for apart in (0, 1, 8, PAGE):
        memory = memoryview(base + bytes(apart) + page)
        after = memory[PAGE + apart :]
        assert CONTEXT.encode(Codec.LZ4_PREFIX, after, memory[:PAGE]) == payload
        memory = memoryview(page + bytes(apart) + base)
        after = memory[PAGE + apart :]
        assert CONTEXT.encode(Codec.LZ4_PREFIX, memory[:PAGE], after) == payload


def transformed(page: bytes) -> tuple[bytes, bytes]:
    """The row in front of a payload, and MTF(BWT(page)), both in plain Python."""
    last, row = bwt_oracle.bwt(page)
    return row.to_bytes(2, "little"), bwt_oracle.move_to_front(last)


@settings(deadline=None, max_examples=12)
@given(pages())
def test_transformed_payloads_are_a_row_and_the_range_coders_code(page: bytes) -> None:
    row, ranks = transformed(page)
    code = row + range_oracle.encode(ranks)
    assert CONTEXT.decode(Codec.BWT_RANGE, code) == page
    assert CONTEXT.encode(Codec.BWT_RANGE, page) == (code if len(code) <= PAGE else None)


@settings(deadline=None, max_examples=25)
@given(pairs(), LEVELS)
def test_transformed_payloads_are_a_row_and_a_frame(pair: Pair, level: int) -> None:
    page, base = pair
    row, ranks = transformed(page)
    base_ranks = transformed(base)[1]
    for codec, prefix in ((Codec.BWT_ZSTD, None), (Codec.BWT_PREFIX, base_ranks)):
        theirs = row + oracle.zstd_encode(ranks, prefix, level)
        assert decoded(codec, theirs, base) == page
        payload = encoded(codec, page, base, level)
        if payload is None:
            assert len(theirs) > PAGE - 200  # another zstd version
        else:
            assert payload[:2] == row
            assert oracle.zstd_decode(payload[2:], prefix) == ranks


def test_a_transform_is_not_taken_for_another_pages() -> None:
    """The context remembers the last one."""
    random = Random(6)
    base = compressible_page(random)
    first, second = (similar_page(base, random, 1) for _ in range(2))
    context = Context()
    for page in (first, second, first, base, second):
        buffer = bytearray(page)  # often at the same address
        for codec in (Codec.BWT_PREFIX, Codec.BWT_RANGE, Codec.BWT_ZSTD):
            given_base = base if codec.is_patch else None
            payload = context.encode(codec, buffer, given_base)
            assert payload == Context().encode(codec, page, given_base)
            assert payload is not None
            assert context.decode(codec, payload, given_base) == page


@pytest.mark.parametrize("codec", [Codec.BWT_RANGE, Codec.BWT_ZSTD, Codec.BWT_PREFIX])
def test_a_row_that_is_not_the_pages_is_refused(codec: Codec) -> None:
    base = compressible_page(Random(7))
    page = similar_page(base, Random(8), 9)
    payload = encoded(codec, page, base)
    assert payload is not None
    for row in (0, PAGE - 1, PAGE, 65535, int.from_bytes(payload[:2], "little") ^ 1):
        if row.to_bytes(2, "little") != payload[:2]:
            with pytest.raises(ValueError, match="malformed payload"):
                decoded(codec, row.to_bytes(2, "little") + payload[2:], base)


@pytest.mark.parametrize(
    ("codec", "row"),
    [(Codec.ZSTD, 0), (Codec.ZSTD_PREFIX, 0), (Codec.ZSTD_DICTIONARY, 0), (Codec.BWT_ZSTD, 2)],
)
def test_a_payload_is_one_frame_and_nothing_behind_it(codec: Codec, row: int) -> None:
    """zstd itself takes an empty frame behind another, and looks behind the payload."""
    page = compressible_page(Random(7))
    base = similar_page(page, Random(8), 9)
    payload = CONTEXT.encode(codec, page, base)
    assert payload is not None
    empty_frame = bytes([0, payload[row + 1], 1, 0, 0])
    skippable = bytes.fromhex("502a4d18") + bytes(4)
    for behind in (b"\0", b"\1\2\3", empty_frame, skippable):
        with pytest.raises(ValueError, match="malformed payload"):
            CONTEXT.decode(codec, payload + behind, base)
    for length in range(1, row + 6):
        with pytest.raises(ValueError, match="malformed payload"):
            CONTEXT.decode(codec, payload[:length], base)
    assert CONTEXT.decode(codec, payload, base) == page


@given(pages())
@settings(max_examples=50)
def test_raw_and_same_are_plain(page: bytes) -> None:
    word = oracle.same_word(page)
    assert CONTEXT.encode(Codec.RAW, page) == page
    assert CONTEXT.decode(Codec.RAW, page) == page
    assert CONTEXT.encode(Codec.SAME, page) == word
    assert CONTEXT.decode(Codec.SAME, page[:8]) == page[:8] * (PAGE // 8)


def test_a_realistic_page_becomes_small() -> None:
    page = compressible_page(Random(1))
    similar = similar_page(page, Random(2), 4)
    compressed = CONTEXT.encode(Codec.ZSTD, page)
    patch = CONTEXT.encode(Codec.ZSTD_PREFIX, similar, page)
    assert compressed is not None
    assert patch is not None
    assert len(compressed) < PAGE // 2
    assert len(patch) < len(compressed) // 4


def test_the_level_is_honoured_and_can_change() -> None:
    page = compressible_page(Random(4))
    made: dict[int, bytes] = {}
    for level in (19, -5, 1, 19, -5, 1):
        payload = CONTEXT.encode(Codec.ZSTD, page, None, level)
        assert payload is not None
        assert made.setdefault(level, payload) == payload
    assert len(made[19]) < len(made[1]) < len(made[-5])


@settings(deadline=None, max_examples=30)
@given(pairs(), st.sampled_from(PAYLOAD_CODECS))
def test_a_payload_depends_on_nothing_but_its_input(pair: Pair, codec: Codec) -> None:
    page, base = pair
    fresh = context_with_dictionary().encode(codec, page, base if codec.is_patch else None)
    assert encoded(codec, page, base) == fresh


# ------------------------------------------------------------------------------- dictionaries


@settings(deadline=None, max_examples=40)
@given(pages())
def test_payloads_with_a_dictionary_are_zstd_frames(page: bytes) -> None:
    payload = CONTEXT.encode(Codec.ZSTD_DICTIONARY, page)
    theirs = oracle.zstd_encode(page, dictionary=DICTIONARY.content)
    assert CONTEXT.decode(Codec.ZSTD_DICTIONARY, theirs) == page
    if payload is None:
        assert len(theirs) > PAGE
    else:
        assert oracle.zstd_decode(payload, dictionary=DICTIONARY.content) == page


def test_a_dictionary_makes_pages_like_its_samples_smaller() -> None:
    random = Random(5)
    with_it, without = 0, 0
    for _ in range(20):
        page = compressible_page(random)
        with_it += len(CONTEXT.encode(Codec.ZSTD_DICTIONARY, page) or bytes(PAGE))
        without += len(CONTEXT.encode(Codec.ZSTD, page) or bytes(PAGE))
    assert with_it < 0.95 * without


def test_without_a_dictionary_its_codec_makes_nothing() -> None:
    page = compressible_page(Random(1))
    payload = CONTEXT.encode(Codec.ZSTD_DICTIONARY, page)
    assert payload is not None
    assert Context().encode(Codec.ZSTD_DICTIONARY, page) is None
    with pytest.raises(ValueError, match="malformed payload"):
        Context().decode(Codec.ZSTD_DICTIONARY, payload)


def test_a_context_can_change_its_dictionary() -> None:
    page = compressible_page(Random(1))
    other = trained(78)
    assert other.content != DICTIONARY.content
    context = Context()
    payloads = []
    for dictionary in (DICTIONARY, other, DICTIONARY):
        context.use(dictionary)
        payload = context.encode(Codec.ZSTD_DICTIONARY, page)
        assert payload is not None
        assert context.decode(Codec.ZSTD_DICTIONARY, payload) == page
        payloads.append(payload)
    assert payloads[0] == payloads[2] != payloads[1]


def test_a_context_keeps_its_dictionary_alive() -> None:
    page = compressible_page(Random(1))
    context = Context()
    context.use(trained(78))
    gc.collect()
    payload = context.encode(Codec.ZSTD_DICTIONARY, page)
    assert payload is not None
    assert context.decode(Codec.ZSTD_DICTIONARY, payload) == page


def test_a_dictionary_is_shared_between_threads() -> None:
    pages_of_thread = [
        [compressible_page(Random(100 * t + i)) for i in range(50)] for t in range(4)
    ]

    def round_trips(mine: list[bytes]) -> bool:
        context = context_with_dictionary()
        payloads = [context.encode(Codec.ZSTD_DICTIONARY, page) for page in mine]
        return all(
            payload is not None and context.decode(Codec.ZSTD_DICTIONARY, payload) == page
            for payload, page in zip(payloads, mine, strict=True)
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(round_trips, pages_of_thread))


@pytest.mark.parametrize("capacity", [256, 1024, 4096, 16384])
def test_a_dictionary_keeps_its_capacity(capacity: int) -> None:
    random = Random(1)
    samples = b"".join(compressible_page(random) for _ in range(128))
    content = train_dictionary(samples, capacity, 1)
    assert content is not None
    assert len(content) <= capacity


def test_samples_that_do_not_suffice_give_no_dictionary() -> None:
    assert train_dictionary(b"", 4096, 1) is None
    assert train_dictionary(bytes(PAGE - 1), 4096, 1) is None
    assert train_dictionary(compressible_page(Random(1)), 4096, 1) is None
    assert train_dictionary(compressible_page(Random(1)) * 200, 0, 1) is None


# ----------------------------------------------------------------------------------------- limits


@settings(deadline=None)
@given(pairs(), st.sampled_from(PAYLOAD_CODECS), st.integers(0, PAGE))
@example((random_page(Random(1)), random_page(Random(2))), Codec.ZSTD_PREFIX, 0)
@example((random_page(Random(1)), random_page(Random(2))), Codec.LZ4, 0)
def test_the_limit_is_never_exceeded(pair: Pair, codec: Codec, limit: int) -> None:
    page, base = pair
    payload = CONTEXT.encode(codec, page, base if codec.is_patch else None, limit=limit)
    if payload is None:
        return
    assert len(payload) <= limit
    assert decoded(codec, payload, base) == page


@settings(deadline=None, max_examples=40)
@given(pairs(), st.sampled_from(PAYLOAD_CODECS))
def test_what_fits_exactly_is_given(pair: Pair, codec: Codec) -> None:
    page, base = pair
    payload = encoded(codec, page, base)
    assume(payload is not None)
    assert payload is not None
    given_base = base if codec.is_patch else None
    short = CONTEXT.encode(codec, page, given_base, limit=len(payload) - 1)
    assert short is None or len(short) < len(payload)
    if codec not in ZSTD_CODECS:  # zstd may want spare room
        assert CONTEXT.encode(codec, page, given_base, limit=len(payload)) == payload


@pytest.mark.parametrize("codec", [Codec.SAME, *CONTEXT_CODECS])
def test_a_random_page_does_not_fit(codec: Codec) -> None:
    page, base = random_page(Random(1)), random_page(Random(2))
    assert encoded(codec, page, base) is None


def test_a_limit_above_a_page_is_a_page() -> None:
    page = random_page(Random(1))
    assert CONTEXT.encode(Codec.ZSTD, page, limit=1 << 40) is None
    assert CONTEXT.encode(Codec.RAW, page, limit=1 << 40) == page


@pytest.mark.parametrize("codec", [codec for codec in Codec if codec.is_patch])
def test_a_patch_needs_a_base(codec: Codec) -> None:
    page = compressible_page(Random(1))
    assert CONTEXT.encode(codec, page) is None
    payload = CONTEXT.encode(codec, page, page)
    assert payload is not None
    with pytest.raises(ValueError, match="malformed payload"):
        CONTEXT.decode(codec, payload)


@pytest.mark.parametrize("number", [-1, 0, max(Codec) + 1, 15, 1 << 20])
def test_an_unknown_codec_makes_nothing(number: int) -> None:
    page = compressible_page(Random(1))
    assert CONTEXT.encode(number, page, page) is None
    with pytest.raises(ValueError, match="malformed payload"):
        CONTEXT.decode(number, b"12345678", page)


# --------------------------------------------------------------------- contexts go on after failure


def still_works(context: Context) -> bool:
    """Every codec round-trips, and makes what a fresh context makes."""
    base = compressible_page(Random(11))
    page = similar_page(base, Random(12), 20)
    for codec in CONTEXT_CODECS:
        given_base = base if codec.is_patch else None
        payload = context.encode(codec, page, given_base)
        if payload is None or payload != context_with_dictionary().encode(codec, page, given_base):
            return False
        if context.decode(codec, payload, given_base) != page:
            return False
    return True


@pytest.mark.parametrize("limit", [0, 1, 4, 100, 4032])
@pytest.mark.parametrize("codec", CONTEXT_CODECS)
def test_a_result_that_does_not_fit_leaves_the_context_usable(codec: Codec, limit: int) -> None:
    """Once, a patch that did not fit left its frame open, and no patch was made ever after."""
    context = context_with_dictionary()
    for seed in range(4):
        page, base = random_page(Random(seed)), random_page(Random(seed + 100))
        given_base = base if codec.is_patch else None
        assert context.encode(codec, page, given_base, limit=limit) is None
        assert still_works(context)


@pytest.mark.parametrize("codec", CONTEXT_CODECS)
def test_a_payload_that_cannot_be_decoded_leaves_the_context_usable(codec: Codec) -> None:
    context = context_with_dictionary()
    base = compressible_page(Random(1))
    payload = context.encode(codec, similar_page(base, Random(2)), base if codec.is_patch else None)
    assert payload is not None
    for broken in (payload[:-1], payload[: len(payload) // 2], payload[:1], b"\xff" * 40):
        is_any = codec in OPEN_ENDED_CODECS and payload.startswith(broken)
        refused = pytest.raises(ValueError, match="malformed payload")
        with suppress(ValueError) if is_any else refused:
            context.decode(codec, broken, base if codec.is_patch else None)
        assert still_works(context)


def test_a_prefix_is_used_once() -> None:
    """A base given for one payload must not help the next one, nor spoil it."""
    context = context_with_dictionary()
    base = compressible_page(Random(1))
    # Another buffer: zstd takes a prefix that overlaps its input for one that has been overwritten.
    patch = context.encode(Codec.ZSTD_PREFIX, bytearray(base), base)
    assert patch is not None
    plain = context.encode(Codec.ZSTD, base)
    assert plain is not None
    assert plain == Context().encode(Codec.ZSTD, base)
    assert len(patch) < len(plain) // 4
    assert context.decode(Codec.ZSTD_PREFIX, patch, base) == base
    with pytest.raises(ValueError, match="malformed payload"):
        context.decode(Codec.ZSTD, patch)
    assert context.decode(Codec.ZSTD, plain) == base


# ------------------------------------------------------------------------------ what is no payload


@settings(deadline=None, max_examples=250)
@given(st.data(), pairs(), st.sampled_from(PAYLOAD_CODECS))
def test_damaged_payloads_give_an_error_or_a_page(
    data: st.DataObject, pair: Pair, codec: Codec
) -> None:
    page, base = pair
    payload = encoded(codec, page, base)
    assume(payload is not None)
    assert payload is not None
    broken = data.draw(damaged(payload))
    with suppress(ValueError):
        assert len(decoded(codec, broken, base)) == PAGE
    assert decoded(codec, payload, base) == page


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(PAYLOAD_CODECS), st.binary(max_size=200), seeds)
def test_noise_gives_an_error_or_a_page(codec: Codec, noise: bytes, seed: int) -> None:
    base = compressible_page(Random(seed))
    with suppress(ValueError):
        assert len(decoded(codec, noise, base)) == PAGE


@pytest.mark.parametrize("codec", [c for c in PAYLOAD_CODECS if c not in OPEN_ENDED_CODECS])
def test_every_truncation_is_refused(codec: Codec) -> None:
    base = compressible_page(Random(1))
    page = b"a word! " * 512 if codec is Codec.SAME else similar_page(base, Random(2), 3)
    payload = encoded(codec, page, base)
    assert payload is not None
    for length in range(len(payload)):
        with pytest.raises(ValueError, match="payload"):
            decoded(codec, payload[:length], base)


@pytest.mark.parametrize("codec", PAYLOAD_CODECS)
def test_an_empty_payload_is_refused(codec: Codec) -> None:
    with pytest.raises(ValueError, match="empty payload"):
        decoded(codec, b"", bytes(PAGE))


@pytest.mark.parametrize("size", [0, 1, 8, 4088, 4095, 4097, 8192])
def test_a_payload_of_another_size_than_a_page_is_refused(size: int) -> None:
    content = (b"0123456789abcdef" * 512)[:size]
    zstd = oracle.zstd_encode(content)
    with pytest.raises(ValueError, match="malformed payload"):
        CONTEXT.decode(Codec.ZSTD, zstd)
    with pytest.raises(ValueError, match="malformed payload"):
        CONTEXT.decode(Codec.LZ4, oracle.lz4_encode(content))
    with pytest.raises(ValueError, match="malformed payload"):
        CONTEXT.decode(Codec.ZSTD_PREFIX, zstd, bytes(PAGE))


@settings(deadline=None, max_examples=60)
@given(pairs())
def test_a_patch_against_another_base_is_caught_by_the_size_or_gives_a_page(pair: Pair) -> None:
    page, base = pair
    for codec in (each for each in Codec if each.is_patch):
        payload = encoded(codec, page, base)
        if payload is None:
            continue
        with suppress(ValueError):
            assert len(CONTEXT.decode(codec, payload, bytes(reversed(base)))) == PAGE
