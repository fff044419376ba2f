"""Readers, and what reads images back out of a store, against inputs that nobody meant to make:
a little of what scripts/fuzz-images does for hours, and whether it would see what it looks for."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fuzzing.corpus import KEPT, kept_inputs
from fuzzing.oracle import ComparingAssembly, Violation
from fuzzing.outcomes import Outcome
from fuzzing.seeds import SEEDS, seeds
from fuzzing.short_form import LONGEST, MARK, expand, shorten
from fuzzing.store_target import SCRATCH, StoreTarget
from fuzzing.targets import (
    ReaderTarget,
    Target,
    packed_format_named,
    read,
    targets,
)
from fuzzing.trying import Trying
from fuzzing.unguided import try_mutations
from hypothesis import given
from hypothesis import strategies as st

from difffs.images.assembly import Assembly
from difffs.images.format import Format
from difffs.images.formats import FORMAT_NAMES
from difffs.images.source import Source
from tests.stores import scratch

ROOT = Path(__file__).parents[2]
ALL = [each for each in targets() if not isinstance(each, StoreTarget)]
READERS = [each for each in ALL if isinstance(each, ReaderTarget)]


def named(target: Target) -> str:
    return target.name


# ---- the readers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ALL, ids=named)
def test_inputs_that_are_kept(target: Target) -> None:
    """The seeds, nearly all of which are whole images, and what has broken something once."""
    outcomes = [target.run(data)[0] for data in target.seeds()]
    if target.name != "lzop" or outcomes:
        assert Outcome.ACCEPTED in outcomes
    for data in kept_inputs(target.name):
        target.run(data)


@pytest.mark.parametrize("target", ALL, ids=named)
def test_some_mutations(target: Target, tmp_path: Path) -> None:
    inputs = [*target.seeds(), *kept_inputs(target.name)]
    trying = Trying(target, tmp_path)
    try_mutations(trying, inputs, seed=7, runs=2000 if target.weight >= 0.1 else 100)
    assert not trying.found, [path.read_text() for path in tmp_path.glob("*.report")]
    assert trying.counts.runs == sum(trying.counts[1:5])


def test_every_format_is_fuzzed() -> None:
    assert set(FORMAT_NAMES) <= SEEDS.keys()
    assert {each.name for each in READERS} == SEEDS.keys()
    kept = {folder.name for folder in KEPT.iterdir() if folder.is_dir()}
    assert kept <= {each.name for each in targets()}


def test_what_is_accepted_is_the_same_out_of_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All seeds and inputs that are kept, and some mutations."""
    target = next(each for each in targets() if isinstance(each, StoreTarget))
    with scratch() as folder:
        monkeypatch.setenv(SCRATCH, str(folder))
        target.prepare()
        inputs = target.seeds()
        for number, reader in enumerate(target.readers):
            inputs += [bytes([number]) + data for data in kept_inputs(reader.name)]
        trying = Trying(target, tmp_path)
        try_mutations(trying, inputs, seed=3, runs=len(inputs) + 500)
        target.close()
    assert not trying.found, [path.read_text() for path in tmp_path.glob("*.report")]
    assert trying.counts.accepted > 50


@pytest.mark.minutes
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("guided", [0.2, 0.0])
def test_many_mutations(guided: float, tmp_path: Path) -> None:
    """What scripts/fuzz-images runs, each target in a process of its own."""
    command = [sys.executable, "-m", "fuzzing", "--runs", "200000", f"--guided={guided}"]
    done = subprocess.run(
        [*command, "--findings", str(tmp_path / "findings")],
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'scripts'}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (tmp_path / "findings").exists()


# ---- what does the fuzzing -----------------------------------------------------------------------


@pytest.mark.parametrize("name", SEEDS)
def test_short_forms_are_those_of_the_images(name: str) -> None:
    longest = 80 << 10
    for image in seeds(name):
        short = shorten(image)
        assert expand(short, longest) == image
        assert len(short) < 8192


@given(st.lists(st.one_of(st.binary(max_size=20), st.just(MARK)), max_size=30))
def test_anything_is_the_short_form_of_something(parts: list[bytes]) -> None:
    short = b"".join(parts)
    image = expand(short)
    assert len(image) <= LONGEST
    if MARK not in short:
        assert image == short
    if MARK not in image:
        assert expand(shorten(image)) == image


Read = Callable[[Source, Assembly], None]


def _whole(source: Source, assembly: Assembly) -> None:
    assembly.blocks([("memory", 8)], 0)
    assembly.memory(0, 0, source.take(8, "memory"))
    assembly.literal(source.take(8, "the rest"))


def _skips(source: Source, assembly: Assembly) -> None:
    assembly.literal(source.take(8, "half"))
    source.skip(len(source.peek(8)))


def _leaves(source: Source, assembly: Assembly) -> None:
    assembly.literal(source.take(8, "half"))


def _invents(source: Source, assembly: Assembly) -> None:
    assembly.literal(source.take(8, "half"))
    assembly.zeros(len(source.take(8, "half")))


def _claims(source: Source, assembly: Assembly) -> None:
    assembly.zeros(1 << 60)


def _behind(source: Source, assembly: Assembly) -> None:
    assembly.blocks([("memory", 8)], 0)
    assembly.memory(0, 1, source.take(8, "memory"))


def _replaces(source: Source, assembly: Assembly) -> None:
    _whole(source, assembly)
    assembly.memory_apart(0, 3, b"new")


def _twice(source: Source, assembly: Assembly) -> None:
    assembly.blocks([("memory", 16)], 0)
    assembly.memory(0, 0, source.take(8, "memory"))
    assembly.memory(0, 7, source.take(8, "memory"))


def _large(source: Source, assembly: Assembly) -> None:
    assembly.blocks([("memory", 1 << 60)], 0)


def _fails(source: Source, assembly: Assembly) -> None:
    raise KeyError(source.position)


def _names_nothing(source: Source, assembly: Assembly) -> None:
    assembly.begin_container()
    assembly.at(100)
    assembly.literal(source.take(16, "all"))
    assembly.container_inner(99, 16)


@pytest.mark.parametrize(
    "wrong",
    [
        *(_skips, _leaves, _invents, _claims, _behind, _replaces, _twice, _large, _fails),
        _names_nothing,
    ],
)
def test_a_reader_that_is_wrong_is_found(wrong: Read, tmp_path: Path) -> None:
    image = b"8 bytes,8 others"
    for reader, finds in ((_whole, 0), (wrong, 1)):
        form = Format("invented", "invented format", lambda _prefix: True, reader)
        trying = Trying(ReaderTarget(form), tmp_path)
        result = trying.run(image)
        assert len(trying.found) == finds
        assert (result is None) == bool(finds)
    report = next(tmp_path.glob("*.report")).read_text()
    assert "Violation" in report or "KeyError" in report
    assert next(tmp_path.glob("*.input")).read_bytes() == image


def test_unpacked_bytes_are_compared_too() -> None:
    good = packed_format_named("gzip")
    image = seeds("gzip")[1]
    assert read(good, image)[0] is Outcome.ACCEPTED

    def bad(source: Source, assembly: Assembly) -> None:
        class Wrong(ComparingAssembly):
            def memory(self, block: int, offset: int, data: memoryview | bytes) -> None:
                super().memory(block, offset, bytes(data).replace(b"p", b"q"))

        assert isinstance(assembly, ComparingAssembly)
        assembly.__class__ = Wrong
        good.read(source, assembly)

    with pytest.raises(Violation, match="unpacked"):
        read(Format("gzip", "gzip", good.matches, bad), image)
