"""The native VCDIFF codec against the RFC's plain reading and against the xdelta3 tool."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from difffs import _kernels
from tests.codec import vcdiff_oracle as oracle
from tests.codec.page_pairs import Pair, pairs, seeds
from tests.codec.vcdiff_oracle import (
    ADD,
    CODE_TABLE,
    COPY,
    PAGE,
    Add,
    Copy,
    Half,
    Run,
)


@st.composite
def instruction_lists(draw: st.DrawFn) -> list[oracle.Instruction]:
    """Anything that makes a page, also what no encoder would think of."""
    random = Random(draw(seeds))
    longest = draw(st.sampled_from([8, 40, 5000]))
    made: list[oracle.Instruction] = []
    here = PAGE
    while here < 2 * PAGE:
        size = min(random.randint(0 if here % 7 == 0 else 1, longest), 2 * PAGE - here)
        kind = random.choice([Add, Run, Copy, Copy])
        if kind is Add:
            made.append(Add(random.randbytes(size)))
        elif kind is Run:
            made.append(Run(random.randrange(256), size))
        else:
            known = [each.address for each in made if isinstance(each, Copy)]
            near = [address for address in known[-6:] if address < here]
            address = random.choice([random.randrange(here), here - 1, *near])
            made.append(Copy(address, size))
        here += size
    return made


def play(instructions: list[oracle.Instruction], base: bytes) -> bytes:
    u = bytearray(base)
    for each in instructions:
        if isinstance(each, Add):
            u += each.data
        elif isinstance(each, Run):
            u += bytes([each.byte]) * each.size
        else:
            for address in range(each.address, each.address + each.size):
                u.append(u[address])
    return bytes(u[PAGE:])


def at_random(random: Random) -> tuple[oracle.ChooseMode, Callable[[], bool]]:
    """How `assemble` shall choose modes and pairs."""
    return lambda encodings: random.choice(list(encodings)), lambda: random.random() < 0.7


# ----------------------------------------------------------------------------------- round trip


@settings(deadline=None)
@given(pairs())
def test_round_trip(pair: Pair) -> None:
    page, base = pair
    patch = _kernels.vcdiff_encode(page, base, PAGE)
    if patch is None:  # longer than the page
        assert len(oracle.encode(page, base)) > PAGE - 100
        return
    assert len(patch) <= PAGE
    assert _kernels.vcdiff_decode(patch, base) == page
    assert oracle.decode(patch, base) == page


@settings(deadline=None)
@given(pairs(), st.integers(0, PAGE))
def test_the_limit_is_kept(pair: Pair, limit: int) -> None:
    page, base = pair
    patch = _kernels.vcdiff_encode(page, base, PAGE)
    limited = _kernels.vcdiff_encode(page, base, limit)
    if patch is None or len(patch) > limit:
        assert limited is None
    else:
        assert limited == patch
        assert _kernels.vcdiff_encode(page, base, len(patch)) == patch
        assert _kernels.vcdiff_encode(page, base, len(patch) - 1) is None


def test_an_equal_page_takes_a_handful_of_bytes() -> None:
    page = Random(1).randbytes(PAGE)
    patch = _kernels.vcdiff_encode(page, page, PAGE)
    assert patch is not None
    assert len(patch) <= 6


@pytest.mark.parametrize("size", [1, 4, 17, 18, 19, 127, 128, 129, 1000])
def test_a_changed_stretch_costs_little_more_than_its_bytes(size: int) -> None:
    base = Random(2).randbytes(PAGE)
    page = base[:1500] + Random(3).randbytes(size) + base[1500 + size :]
    patch = _kernels.vcdiff_encode(page, base, PAGE)
    assert patch is not None
    assert _kernels.vcdiff_decode(patch, base) == page
    assert len(patch) <= size + 16


# ------------------------------------------------------------------------------------- decoding


@settings(deadline=None)
@given(pairs())
def test_native_decodes_the_oracles_patches(pair: Pair) -> None:
    page, base = pair
    assert _kernels.vcdiff_decode(oracle.encode(page, base), base) == page


@settings(deadline=None)
@given(instruction_lists(), seeds)
def test_native_decodes_any_instructions(instructions: list[oracle.Instruction], seed: int) -> None:
    base = Random(seed).randbytes(PAGE)
    patch = oracle.assemble(instructions, *at_random(Random(seed)))
    page = play(instructions, base)
    assert oracle.decode(patch, base) == page
    assert _kernels.vcdiff_decode(patch, base) == page


@pytest.mark.parametrize("code", range(256))
def test_every_code_of_the_default_table(code: int) -> None:
    base = Random(4).randbytes(PAGE)
    # Four COPYs, too long to be paired, fill the near slots and slots of all three same modes.
    places = [0x90, 0x123, 0x2A0, 3000]
    instructions: list[oracle.Instruction] = [Copy(address, 7) for address in places]
    here = PAGE + 7 * len(places)
    for half in CODE_TABLE[code]:
        size = half.size or 700
        if half.kind == COPY:
            instructions.append(Copy(_reachable(half.mode, places), size))
        else:
            instructions.append(Add(base[:size]) if half.kind == ADD else Run(7, size))
        here += size
    instructions.append(Run(9, 2 * PAGE - here))

    wanted = [half.mode for half in CODE_TABLE[code] if half.kind == COPY]
    modes = iter([0] * len(places) + wanted)
    patch = oracle.assemble(instructions, lambda _: next(modes))
    assert code in oracle.split(patch)[1]
    assert _kernels.vcdiff_decode(patch, base) == play(instructions, base)


def _reachable(mode: int, places: list[int]) -> int:
    """An address that a COPY in this mode can express."""
    if mode in (0, 1):
        return 1234
    if mode < 6:
        return places[mode - 2] + 5
    return next(address for address in places if address % 768 // 256 == mode - 6)


def test_a_copy_may_run_from_the_base_into_the_page() -> None:
    base = Random(5).randbytes(PAGE)
    instructions: list[oracle.Instruction] = [Add(b"abc"), Copy(PAGE - 2, PAGE - 3)]
    page = _kernels.vcdiff_decode(oracle.assemble(instructions), base)
    assert page == play(instructions, base)
    assert page.startswith(b"abc" + base[-2:] + b"abc")


# ------------------------------------------------------------------------------ malformed bytes

_ALL = oracle.integer(PAGE)


@pytest.mark.parametrize(
    "patch",
    [
        pytest.param(b"\x00\x00", id="no instructions"),
        pytest.param(b"\x00", id="no instructions length"),
        pytest.param(b"\x80", id="an integer without its end"),
        pytest.param(b"\x80\x80\x80\x80\x01\x03\x07\x00" + _ALL, id="an integer of five digits"),
        pytest.param(b"\x7f\x03\x07\x00" + _ALL, id="data past the end"),
        pytest.param(b"\x01\x7f\x07\x00" + _ALL, id="instructions past the end"),
        pytest.param(b"\xff\xff\xff\x7f\xff\xff\xff\x7f", id="lengths past everything"),
        pytest.param(b"\x01\x01\x07\x00", id="a run without its size"),
        pytest.param(b"\x00\x03\x00" + _ALL, id="a run without its byte"),
        pytest.param(b"\x01\x03\x07\x00" + oracle.integer(PAGE - 1), id="a byte less"),
        pytest.param(b"\x01\x03\x07\x00" + oracle.integer(PAGE + 1), id="a byte more"),
        pytest.param(b"\x01\x06\x07\x00\xff\xff\xff\x7f\x00", id="far more than a page"),
        pytest.param(b"\x02\x03\x07\x07\x00" + _ALL, id="data left over"),
        pytest.param(b"\x01\x03\x07\x00" + _ALL + b"\x00", id="an address left over"),
        pytest.param(b"\x03\x04abc\x05\x00" + _ALL, id="an add past its data"),
        pytest.param(b"\x00\x03\x13" + _ALL, id="a copy without its address"),
        pytest.param(b"\x00\x03\x13" + _ALL + b"\x80", id="an address without its end"),
        pytest.param(b"\x00\x03\x13" + _ALL + _ALL, id="a copy from itself"),
        pytest.param(b"\x00\x03\x23" + _ALL + b"\x00", id="a copy from here"),
        pytest.param(b"\x00\x03\x23" + _ALL + oracle.integer(PAGE + 1), id="before the base"),
        pytest.param(b"\x00\x03\x33" + _ALL + b"\xff\xff\xff\x7f", id="far behind"),
    ],
)
def test_malformed_patches_are_refused(patch: bytes) -> None:
    base = bytes(PAGE)
    with pytest.raises(oracle.MalformedError):
        oracle.decode(patch, base)
    with pytest.raises(ValueError, match="malformed"):
        _kernels.vcdiff_decode(patch, base)


def test_an_empty_patch_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        _kernels.vcdiff_decode(b"", bytes(PAGE))


def assert_same_verdict(patch: bytes, base: bytes) -> None:
    """Both decoders refuse the bytes, or both make the same page of them."""
    try:
        expected = oracle.decode(patch, base)
    except oracle.MalformedError:
        with pytest.raises(ValueError, match=r"malformed|empty"):
            _kernels.vcdiff_decode(patch, base)
    else:
        assert _kernels.vcdiff_decode(patch, base) == expected


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
@given(instruction_lists(), seeds, st.data())
def test_hostile_instructions_are_judged_as_the_oracle_does(
    instructions: list[oracle.Instruction], seed: int, data: st.DataObject
) -> None:
    patch = bytearray(oracle.assemble(instructions, *at_random(Random(seed))))
    place = data.draw(st.integers(0, len(patch) - 1))
    patch[place] = data.draw(st.integers(0, 255))
    assert_same_verdict(bytes(patch), Random(seed).randbytes(PAGE))


@settings(deadline=None)
@given(st.binary(max_size=64))
@example(b"\x00\x00\x00")
def test_noise_is_judged_as_the_oracle_does(noise: bytes) -> None:
    assert_same_verdict(noise, bytes(range(256)) * 16)


# ------------------------------------------------------------------------------ streams, the tool


@settings(deadline=None)
@given(pairs())
def test_streams_are_as_the_oracle_writes_them(pair: Pair) -> None:
    page, base = pair
    patch = oracle.encode(page, base)
    stream = _kernels.vcdiff_stream(patch)
    assert stream == oracle.to_stream(patch)
    assert oracle.from_stream(stream) == patch


@pytest.mark.parametrize("patch", [b"", b"\x80", b"\x05\x05\x00", bytes(70000)])
def test_malformed_patches_have_no_stream(patch: bytes) -> None:
    with pytest.raises(ValueError, match="malformed"):
        _kernels.vcdiff_stream(patch)


def _records(random: Random) -> bytes:
    """A page as memory has them: pointers into one region, counters, text, and zeros."""
    heap = 0x7F3A_0000_0000 + random.randrange(1 << 20) * PAGE
    words = ["inode", "cache", "kernel", "/usr/lib/", "python3", "error: ", "unexpected "]
    page = bytearray()
    while len(page) < PAGE:
        kind = random.randrange(4)
        if kind == 0:
            for _ in range(random.randint(2, 30)):
                page += (heap + random.randrange(1 << 16) * 8).to_bytes(8, "little")
        elif kind == 1:
            page += b"".join(
                random.randrange(500).to_bytes(4, "little") for _ in range(random.randint(4, 60))
            )
        elif kind == 2:
            page += " ".join(random.choices(words, k=random.randint(3, 40))).encode() + b"\x00"
        else:
            page += bytes(random.randint(16, 400))
    return bytes(page[:PAGE])


def _similar(random: Random, base: bytes) -> bytes:
    """What becomes of such a page: fields change, records move, a part is another's."""
    page = bytearray(base)
    for _ in range(random.choice([1, 5, 40])):
        offset = random.randrange(PAGE // 8) * 8
        page[offset : offset + 8] = random.randbytes(random.choice([2, 4, 8])).ljust(8, b"\x00")
    if random.random() < 0.4:
        start, size = random.randrange(PAGE), random.choice([8, 48, 300])
        page[start:start] = random.randbytes(size)
    if random.random() < 0.4:
        start = random.randrange(PAGE)
        page[start : start + 600] = _records(random)[:600]
    return bytes(page[:PAGE].ljust(PAGE, b"\x00"))


class Tool:
    """The xdelta3 command, with one pair at a time in files."""

    def __init__(self, command: str, directory: Path) -> None:
        self.command = command
        self.base = directory / "base"
        self.input = directory / "input"

    def run(self, action: list[str], base: bytes, given: bytes) -> bytes:
        self.base.write_bytes(base)
        self.input.write_bytes(given)
        arguments = [self.command, *action, "-c", "-s", str(self.base), str(self.input)]
        return subprocess.run(arguments, check=True, capture_output=True).stdout

    def encode(self, page: bytes, base: bytes) -> bytes:
        """No secondary compression, no checksum, no application header."""
        return self.run(["-e", "-S", "none", "-n", "-A"], base, page)

    def decode(self, stream: bytes, base: bytes) -> bytes:
        return self.run(["-d"], base, stream)


@pytest.fixture
def tool(tmp_path: Path) -> Tool:
    command = shutil.which("xdelta3")
    if command is None:
        pytest.skip("the xdelta3 tool is not installed (Debian package xdelta3)")
    return Tool(command, tmp_path)


def test_the_tool_decodes_native_patches_and_the_sizes_agree(tool: Tool) -> None:
    random = Random(20)
    native_bytes = tool_bytes = decoded = 0
    for _ in range(40):
        base = _records(random)
        page = _similar(random, base)
        patch = _kernels.vcdiff_encode(page, base, PAGE)
        assert patch is not None
        stream = _kernels.vcdiff_stream(patch)
        assert tool.decode(stream, base) == page

        tools_stream = tool.encode(page, base)
        if oracle.has_whole_base(tools_stream):
            assert _kernels.vcdiff_decode(oracle.from_stream(tools_stream), base) == page
            decoded += 1
        native_bytes += len(stream)
        tool_bytes += len(tools_stream)
    assert decoded > 0
    assert native_bytes <= 1.03 * tool_bytes
    # Much smaller would mean that another shape of patch is measured than the tool's.
    assert native_bytes >= 0.6 * tool_bytes


@pytest.mark.parametrize(
    ("page", "base"),
    [
        pytest.param(bytes(PAGE), bytes(PAGE), id="zeros"),
        pytest.param(b"ab" * (PAGE // 2), Random(6).randbytes(PAGE), id="periodic"),
        pytest.param(Random(7).randbytes(2000) * 3, Random(8).randbytes(PAGE), id="repeats"),
        pytest.param(bytes(Random(9).choices(b"ab", k=PAGE)), b"ab" * 2048, id="two values"),
        pytest.param(Random(10).randbytes(PAGE)[::-1], Random(10).randbytes(PAGE), id="reversed"),
    ],
)
def test_the_tool_decodes_native_patches_of_odd_pages(tool: Tool, page: bytes, base: bytes) -> None:
    page = page[:PAGE]
    patch = _kernels.vcdiff_encode(page, base, PAGE)
    if patch is None:  # longer than the page
        patch = oracle.encode(page, base)
    assert tool.decode(_kernels.vcdiff_stream(patch), base) == page


def test_the_oracles_code_table_is_the_rfcs() -> None:
    """The rows that RFC 3284 section 5.6 begins and ends its groups with."""
    rows = {
        0: (Half("RUN", 0),),
        1: (Half(ADD, 0),),
        18: (Half(ADD, 17),),
        19: (Half(COPY, 0, 0),),
        34: (Half(COPY, 18, 0),),
        35: (Half(COPY, 0, 1),),
        162: (Half(COPY, 18, 8),),
        163: (Half(ADD, 1), Half(COPY, 4, 0)),
        174: (Half(ADD, 4), Half(COPY, 6, 0)),
        175: (Half(ADD, 1), Half(COPY, 4, 1)),
        234: (Half(ADD, 4), Half(COPY, 6, 5)),
        235: (Half(ADD, 1), Half(COPY, 4, 6)),
        246: (Half(ADD, 4), Half(COPY, 4, 8)),
        247: (Half(COPY, 4, 0), Half(ADD, 1)),
        255: (Half(COPY, 4, 8), Half(ADD, 1)),
    }
    assert {code: CODE_TABLE[code] for code in rows} == rows
