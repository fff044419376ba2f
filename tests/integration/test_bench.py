"""scripts/bench measures everything with tiny sizes; nothing is said about speed here."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmark import mounts, neighbour
from benchmark.generator import PAGE, Generator
from benchmark.options import PARTS
from benchmark.result import Part, render
from benchmark.work import BenchmarkError

CHECKOUT = Path(__file__).resolve().parents[2]
TINY = [
    *("--rounds", "1", "--size", "8M", "--job-size", "8M", "--hog-size", "24M"),
    *("--scale-sizes", "8M,16M", "--recipes", "default,fast"),
    *("--cost-sizes", "8M,64M", "--cost-files", "200", "--neighbour-seconds", "0.5"),
    *("--cluster-images", "2,4", "--cluster-image-size", "1M"),
    *("--refine-sizes", "8M,16M"),
]


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT / "scripts")}
    command = [sys.executable, "-m", "benchmark", *words]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=600, env=environment
    )


@pytest.mark.slow
@pytest.mark.minutes
@pytest.mark.timeout(900)
@pytest.mark.integration
def test_every_part_is_measured_and_verified() -> None:
    parts = [part for part in PARTS if part not in ("guest", "guests")]  # boots take minutes
    done = bench(*TINY, "--json", "--parts", ",".join(parts))
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["schema_version"] == 1
    assert report["failures"] == {}
    assert list(report["parts"]) == parts
    for name, part in report["parts"].items():
        assert len(part["load"]) == 2
        assert part["figures"] or part["absent"], name
        assert bool(part["pages_verified"]) == bool(part["figures"]), name
        for figure in part["figures"]:
            assert figure["values"], figure
            assert figure["median"] >= 0, figure
        for ratio in part["ratios"]:
            assert ratio["value"] >= 0, ratio
    engine = {(f["subject"], f["contender"]) for f in report["parts"]["engine"]["figures"]}
    assert ("default, 1 worker", "import") in engine
    assert ("fast, 2 workers", "import") in engine


@pytest.mark.slow
@pytest.mark.minutes
@pytest.mark.timeout(1800)
@pytest.mark.integration
def test_guests_are_measured_with_each_kind_of_ram() -> None:
    words = ("--guests", "2", "--guest-size", "160M", "--guest-rounds", "1", "--rest-seconds", "4")
    done = bench(*TINY, *words, "--json", "--parts", "guests")
    assert done.returncode == 0, done.stderr
    part = json.loads(done.stdout)["parts"]["guests"]
    if "guests" in part["absent"]:
        pytest.skip(part["absent"]["guests"])
    figures = {(f["subject"], f["contender"]): f["median"] for f in part["figures"]}
    ways = ("plain", "KSM", "zram 50%", "difffs 50%", "difffs auto")
    measured = [way for way in ways if ("after the rest", way) in figures]
    assert "plain" in measured
    assert len(measured) + len(part["absent"]) >= len(ways)
    for way in measured:
        rest, work = figures["after the rest", way], figures["mean of their work", way]
        assert 0 < rest < 2 * 160 + 200
        assert 0 < work < 2 * 160 + 200
        assert figures["QEMU itself", way] > 0
        parts = ("guest pages", "store, zram, KSM", "daemons")
        assert rest == pytest.approx(sum(figures[each, way] for each in parts))
    assert figures["guest pages", "difffs 50%"] <= 160 + 8


@pytest.mark.slow
def test_the_generator_is_compared_with_an_image(tmp_path: Path) -> None:
    image = tmp_path / "some.mem"
    image.write_bytes(b"".join(Generator(2).batches(512)))
    done = bench("--check-generator", "--size", "2M", "--folder", str(tmp_path), str(image))
    assert done.returncode == 0, done.stderr
    assert "generator" in done.stdout
    assert "some.mem" in done.stdout


def test_wrong_usage_is_refused() -> None:
    assert bench("--parts", "everything").returncode == 2
    assert bench("no-such-image").returncode == 2


def test_the_generator_repeats_itself_for_the_same_seed_only() -> None:
    def pages(seed: int) -> bytes:
        return b"".join(Generator(seed).batches(300))

    assert len(pages(1)) == 300 * 4096
    assert pages(1) == pages(1)
    assert pages(1) != pages(2)


def test_a_part_is_rendered_with_medians_and_verdicts() -> None:
    part = Part("some")
    part.add("table", "writes", "difffs", "IOPS", [5.0, 1.0, 3.0])
    part.add("table", "writes", "null", "IOPS", [4.0, 4.0, 4.0])
    part.compare("writes", part.median("writes", "difffs"), 4.0, 0.7)
    part.compare("absent", part.median("reads", "difffs"), 4.0, 0.7)
    part.compare("latency", 3.0, 2.0, 1.4, at_most=True)
    assert [(ratio.value, ratio.met) for ratio in part.ratios] == [(0.75, True), (1.5, False)]
    text = render(part)
    assert "NOT MET" in text
    assert ">= 0.7" in text


# --- the null file system in C --------------------------------------------------------------------


@pytest.fixture
def null(tmp_path: Path) -> Iterator[Path]:
    reason = mounts.obstacle()
    if reason is None and os.geteuid() != 0:
        reason = "only root unmounts it"
    program = Path()
    if reason is None:
        try:
            program = mounts.build_null(tmp_path)
        except BenchmarkError as error:
            reason = str(error)
    if reason is not None:
        pytest.skip(reason)
    with mounts.Null(tmp_path / "null", program) as mounted:
        yield mounted.folder


def forget(path: Path) -> None:
    """Have the kernel ask for the bytes again."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@pytest.mark.integration
def test_the_null_file_system_in_c_keeps_what_it_is_given(null: Path) -> None:
    path, model, source = null / "file", bytearray(), random.Random(1)
    with path.open("w+b", buffering=0) as file:
        for _ in range(200):
            at, size = source.randrange(300_000), source.choice((1, 100, PAGE, 70_000))
            data = source.randbytes(size)
            assert os.pwrite(file.fileno(), data, at) == size
            model.extend(bytes(max(0, at + size - len(model))))
            model[at : at + size] = data
            if source.random() < 0.2:
                length = source.randrange(400_000)
                os.ftruncate(file.fileno(), length)
                del model[length:]
                model.extend(bytes(length - len(model)))
            if source.random() < 0.2:
                forget(path)
                assert path.read_bytes() == model
        path.unlink()
        assert os.pread(file.fileno(), len(model) + 1, 0) == model
    assert [*null.iterdir()] == []


@pytest.mark.integration
def test_the_null_file_system_in_c_answers_many_at_once(null: Path) -> None:
    wrong: list[Path] = []

    def work(number: int) -> None:
        path, data = null / f"file{number}", random.Random(number).randbytes(1 << 20)
        for _ in range(5):
            path.write_bytes(data)
            forget(path)
            if path.read_bytes() != data:
                wrong.append(path)
            path.unlink()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert [*null.iterdir()] == []


# --- neighbours -----------------------------------------------------------------------------------


def neighbours(kind: str, file: Path, image: Path) -> subprocess.CompletedProcess[str]:
    """Let one work until it has begun."""
    stop = file.with_suffix(".stop")
    size = str(image.stat().st_size)
    words = [sys.executable, "-m", "benchmark.neighbour", kind, *map(str, (file, image)), size]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT / "scripts")}
    with subprocess.Popen(
        [*words, str(stop)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment,
    ) as process:  # fmt: skip
        begun = Path(f"{stop}.begun")
        while not begun.exists() and process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.02)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.3)
        stop.touch()
        said, complaint = process.communicate()
    for sign in (stop, begun):
        sign.unlink(missing_ok=True)
    return subprocess.CompletedProcess(words, process.returncode, said, complaint)


@pytest.mark.integration
def test_neighbours_compare_what_they_read(null: Path, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"".join(Generator(3).batches(1500)))
    for kind in ("write", "read", "read-large"):
        file = null / kind
        if kind != "write":
            file.write_bytes(image.read_bytes())
            forget(file)
        done = neighbours(kind, file, image)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["pages_verified"] > 0
        if kind != "write":
            file.write_bytes(image.read_bytes()[::-1])
            forget(file)
            assert "was read wrong" in neighbours(kind, file, image).stderr


def test_the_writer_s_bytes_can_be_told_again() -> None:
    page = Generator(1)
    data = b"".join(page.batches(4))
    other = neighbour._changed(data, 0x0123456789ABCDEF)
    assert other != data
    assert neighbour._changed(other, 0x0123456789ABCDEF) == data
    assert neighbour._changed(data, 0) == data
