"""What patchers make of pairs, and how fast; passes over real pairs, also with the xdelta3 tool."""

from __future__ import annotations

import subprocess
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from difffs._kernels import vcdiff_encode, vcdiff_stream
from difffs.errors import EnvironmentProblem
from difffs.page import PAGE_SIZE
from difffs.study.cache import Result
from difffs.study.corpus import Image
from difffs.study.pairs import Pair, sample_pairs
from difffs.study.patchers import PATCHERS, Alone, Patcher, Patches, kept_bytes

PATCH_PASS_VERSION = 2
TOOL_PASS_VERSION = 1

ROUNDS = 5
"""Of each patcher, in turns, so that all meet the same disturbances; the fastest counts."""
SLOW_SECONDS = 1.0
"""A patcher whose first round takes longer has no other."""

_Made = TypeVar("_Made")


# ------------------------------------------------------------------------------- sizes and times


def patch_pass(images: Sequence[Image], folder: Path, parameters: Mapping[str, Any]) -> Result:
    """Patch real pairs with every patcher; each patch is decoded and compared.

    Parameters: `pairs` and `seed` as for sample_pairs(). The result: `pairs` sampled and `found`
    in all, `alone`, the bytes that each pair's page takes by zstd 1, and `patchers`: by name what
    stands in Measured, and `encoder_bytes` and `decoder_bytes` as of Patcher.memory().
    """
    pairs, found = sample_pairs(images, folder, parameters["pairs"], parameters["seed"])
    pages, bases = b"".join(p.page for p in pairs), b"".join(p.base for p in pairs)
    _frames, alone = Alone().encode(pages, bases)
    patchers = {name: make() for name, make in PATCHERS.items()}
    results: dict[str, Result] = {}
    for name, measured in measure_patchers(patchers, pages, bases).items() if pairs else ():
        encoder_bytes, decoder_bytes = patchers[name].memory(pages, bases)
        results[name] = {
            **asdict(measured),
            "encoder_bytes": encoder_bytes,
            "decoder_bytes": decoder_bytes,
        }
    return {
        "pairs": len(pairs),
        "found": found,
        "alone": kept_bytes(alone),
        "patchers": results,
    }


@dataclass(frozen=True, slots=True)
class Measured:
    """What a patcher made of pairs, and how fast."""

    lengths: list[int]
    """Bytes of each pair's patch, without the base's number; the page's where there is none."""
    encode_us: float
    """Microseconds of processor time a pair."""
    decode_us: float | None
    """The same a patch; None when there is none."""


def measure_patchers(
    patchers: Mapping[str, Patcher],
    pages: bytes,
    bases: bytes,
    rounds: int = ROUNDS,
    slow_seconds: float = SLOW_SECONDS,
) -> dict[str, Measured]:
    """Give one pair at least to every patcher, and decode and compare each patch.

    All pairs are given in one call, `rounds` times in all, but once only to a patcher that takes
    more than `slow_seconds` to encode and decode them. AssertionError when a patch decodes to
    another page, or when a patcher makes another patch the next time.
    """
    encoded: dict[str, Patches] = {}
    encoding: dict[str, float] = {}
    decoding: dict[str, float] = {}
    for number in range(rounds):
        for name, patcher in patchers.items():
            if number and encoding[name] + decoding[name] > slow_seconds:
                continue
            made, seconds = _timed(partial(patcher.encode, pages, bases))
            encoding[name] = min(seconds, encoding.get(name, seconds))
            encoded.setdefault(name, made)
            assert made == encoded[name], name
            seconds = _decode(name, patcher, made, pages, bases)
            decoding[name] = min(seconds, decoding.get(name, seconds))
    results = {}
    for name, (_patches, lengths) in encoded.items():
        patched = sum(map(bool, lengths))
        results[name] = Measured(
            kept_bytes(lengths),
            encoding[name] * 1e6 / len(lengths),
            decoding[name] * 1e6 / patched if patched else None,
        )
    return results


def _decode(name: str, patcher: Patcher, made: Patches, pages: bytes, bases: bytes) -> float:
    """Decode every patch and compare; the seconds of decoding."""
    patches, lengths = made
    if not all(lengths):
        pages, bases = (_chosen(content, lengths) for content in (pages, bases))
        lengths = array("I", filter(None, lengths))
    again, seconds = _timed(partial(patcher.decode, patches, lengths, bases))
    assert again == pages, name
    return seconds


def _chosen(content: bytes, lengths: array[int]) -> bytes:
    return b"".join(
        content[number * PAGE_SIZE : (number + 1) * PAGE_SIZE]
        for number, length in enumerate(lengths)
        if length
    )


def _timed(function: Callable[[], _Made]) -> tuple[_Made, float]:
    """The result and the thread's processor time: other processes count less than on the clock."""
    began = time.thread_time()
    made = function()
    return made, time.thread_time() - began


# ---------------------------------------------------------------------------------- xdelta3 tool

TOOL = "xdelta3"
TOOL_LEVELS: Mapping[str, Sequence[str]] = {"default": (), "-9": ("-9",)}
"""How hard the tool searches -> its option."""

_TOOL_OPTIONS = ("-e", "-S", "none", "-n", "-A", "-B", "524288")
"""No secondary compression, no checksum, no application header: what a patch of ours has neither.
A small window for the base spares the tool's start most of its time and changes no size."""


def tool_pass(images: Sequence[Image], folder: Path, parameters: Mapping[str, Any]) -> Result:
    """Let xdelta3 patch real pairs and decode our patches of them.

    Parameters: `pairs` and `seed` as for sample_pairs(), and `tool`, its version. The result:
    `patches`, the lengths of our patches; `streams`, of the same as whole RFC 3284 streams; `tool`:
    for each of TOOL_LEVELS the lengths of its streams; `decoded`, how many of ours it decoded to
    the page. Pairs whose page has no patch of ours are left out.
    """
    pairs, _found = sample_pairs(images, folder, parameters["pairs"], parameters["seed"])
    result: Result = {
        "patches": [],
        "streams": [],
        "tool": {level: [] for level in TOOL_LEVELS},
        "decoded": 0,
    }
    for pair in pairs:
        patch = vcdiff_encode(pair.page, pair.base)
        if patch is None:
            continue
        stream = vcdiff_stream(patch)
        result["patches"].append(len(patch))
        result["streams"].append(len(stream))
        result["decoded"] += _run_tool(folder, ["-d"], pair, stream).stdout == pair.page
        for level, options in TOOL_LEVELS.items():
            result["tool"][level].append(len(_encoded_by_tool(folder, options, pair)))
    return result


def _encoded_by_tool(folder: Path, options: Sequence[str], pair: Pair) -> bytes:
    done = _run_tool(folder, [*_TOOL_OPTIONS, *options], pair, pair.page)
    if done.returncode:
        complaint = done.stderr.decode(errors="replace").strip()[-400:]
        raise EnvironmentProblem(f"{TOOL} exited with {done.returncode}: {complaint}")
    return done.stdout


def _run_tool(
    folder: Path, options: Sequence[str], pair: Pair, given: bytes
) -> subprocess.CompletedProcess[bytes]:
    base, taken = folder / "base", folder / "given"
    base.write_bytes(pair.base)
    taken.write_bytes(given)
    command = [TOOL, *options, "-c", "-s", str(base), str(taken)]
    return subprocess.run(command, check=False, capture_output=True)
