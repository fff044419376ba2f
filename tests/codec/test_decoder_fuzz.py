"""A sample of scripts/fuzz-decoders: what decodes a store's bytes, under the sanitizers."""

import subprocess
from pathlib import Path

import pytest
from fuzzing import decoders

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return decoders.build(tmp_path_factory.mktemp("decoders"))
    except decoders.NoCompiler as error:
        pytest.skip(str(error))


def test_nothing_is_reported(program: Path, tmp_path: Path) -> None:
    done, report = decoders.run(program, 40_000, 3, tmp_path)
    assert report == ""
    assert done["executions"] == 40_000
    assert done["new"] > 20, "inputs reach code that none before has"


def test_a_report_is_one(program: Path, tmp_path: Path) -> None:
    """What the sanitizers find ends the program; an input by itself can be tried again."""
    done = subprocess.run([program, "overrun"], capture_output=True, check=False)
    assert done.returncode != 0
    assert b"heap-buffer-overflow" in done.stderr
    (tmp_path / "one").write_bytes(bytes([3, 0]) + b"no frame")
    done = subprocess.run([program, "replay", tmp_path / "one"], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"1 inputs\n")
