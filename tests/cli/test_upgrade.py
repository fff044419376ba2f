"""``difffs upgrade``, and what other commands say of a store of a former format."""

import json
from hashlib import sha256
from pathlib import Path

import pytest

from difffs.cli.main import main
from tests.store.former_store import CONTENTS, IMAGE, unpack
from tests.stores import OpenStore


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return unpack(tmp_path)


def exported(folder: Path, name: str, target: Path) -> str:
    assert main(["export", str(folder), name, str(target)]) == 0
    digest = sha256(target.read_bytes()).hexdigest()
    target.unlink()
    return digest


def test_a_former_store_is_read_upgraded_and_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = CONTENTS["names"][IMAGE]["sha256"]
    assert exported(folder, IMAGE, tmp_path / "out") == wanted
    for command in ("check", "ls", "stats"):
        assert main([command, str(folder)]) == 0
    assert main(["rm", str(folder), "one.mem"]) == 4
    told = capsys.readouterr()
    assert f"run `difffs upgrade {folder}`" in told.err
    assert main(["upgrade", str(folder)]) == 0
    told = capsys.readouterr()
    assert told.out == f"{folder}: from format 1 to 2, {CONTENTS['objects']} objects verified\n"
    assert main(["upgrade", str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder} has format 2 already\n"
    assert exported(folder, IMAGE, tmp_path / "out") == wanted
    assert main(["rm", str(folder), "one.mem"]) == 0
    assert main(["check", str(folder)]) == 0


def test_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for former, objects in ((1, CONTENTS["objects"]), (2, 0)):
        assert main(["upgrade", "--json", str(folder)]) == 0
        assert json.loads(capsys.readouterr().out) == {
            "schema_version": 1,
            "store": str(folder),
            "former_version": former,
            "version": 2,
            "objects": objects,
        }


def test_a_store_in_use_and_no_store(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with OpenStore(tmp_path / "open"):
        assert main(["upgrade", str(tmp_path / "open")]) == 5
    assert main(["upgrade", str(tmp_path)]) == 3
    (folder / "payloads").write_bytes(b"")
    assert main(["upgrade", str(folder)]) == 6
    assert "stays as it was" in capsys.readouterr().err
