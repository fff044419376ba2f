"""scripts/bench measures everything with tiny sizes; nothing is said about speed here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmark.generator import Generator
from benchmark.options import PARTS
from benchmark.result import Part, render

CHECKOUT = Path(__file__).resolve().parents[2]
TINY = [
    *("--rounds", "1", "--size", "8M", "--job-size", "8M", "--hog-size", "24M"),
    *("--scale-sizes", "8M,16M", "--recipes", "default,fast"),
    *("--cost-sizes", "8M,64M", "--cost-files", "200"),
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
    parts = [part for part in PARTS if part != "guest"]  # a boot each would take a minute
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
