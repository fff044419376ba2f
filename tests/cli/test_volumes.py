"""ls, rm and mv: volumes listed, removed and renamed without a mount."""

import json
import os
from pathlib import Path

import pytest

from difffs._kernels import TABLE_BYTES
from difffs.cli.main import main
from difffs.cli.report import printable
from difffs.page import PAGE_SIZE
from difffs.store import Store

NAMES = ["a", "b", "d/a", "d/e/c", "x y"]


def content(name: str) -> bytes:
    return name.encode() + bytes(2 * PAGE_SIZE) + name.encode() * 3000


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with five volumes, two directories with something in them, and an empty one."""
    path = tmp_path / "store"
    for name in NAMES:
        (tmp_path / "image").write_bytes(content(name))
        assert main(["import", str(path), str(tmp_path / "image"), "--as", name]) == 0
    with Store.open(path) as opened:
        opened.namespace.mkdir("/empty")
        opened.namespace.symlink("/link", "a")
    return path


def volumes(store: Path) -> list[str]:
    """The names of a sound store."""
    with Store.open(store, read_only=True) as opened:
        assert opened.check() == []
        assert opened.namespace.orphans() == []
        return sorted(opened.namespace.path(each.number)[1:] for each in opened.namespace.volumes())


def others(store: Path) -> set[str]:
    """The directories and links."""
    with Store.open(store, read_only=True) as opened:
        names = opened.namespace
        return {names.path(each.number)[1:] for each in names if not each.is_volume} - {""}


def read(store: Path, name: str) -> bytes:
    path = store.parent / "exported"
    assert main(["export", str(store), name, str(path)]) == 0
    return path.read_bytes()


# ---- rm ------------------------------------------------------------------------------------


def test_rm(store: Path) -> None:
    assert main(["rm", str(store), "a", "/d/a", "link"]) == 0
    assert volumes(store) == ["b", "d/e/c", "x y"]
    assert others(store) == {"d", "d/e", "empty"}
    assert main(["rm", str(store), "-r", "d", "d/e", "empty", "b", "b"]) == 0
    assert volumes(store) == ["x y"]
    assert others(store) == set()
    assert main(["rm", str(store), "x y"]) == 0
    with Store.open(store, read_only=True) as opened:
        assert opened.page_counts()["total"] == 0


def test_rm_gives_space_back(tmp_path: Path) -> None:
    store = tmp_path / "store"
    (tmp_path / "image").write_bytes(os.urandom(8 << 20))
    assert main(["import", str(store), str(tmp_path / "image")]) == 0
    assert main(["rm", str(store), "image"]) == 0
    assert (store / "payloads").stat().st_blocks * 512 < 1 << 20


def test_rm_removes_all_or_nothing(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = volumes(store), others(store)
    for words, status, complaint in (
        (["a", "missing"], 10, "it holds a, b, d/a"),
        (["a", "a/b"], 10, "no volume 'a/b'"),
        (["a", "d"], 2, "rm -r"),
        (["a", "empty"], 2, "rm -r"),
        (["a", "/"], 2, "cannot be a volume's name"),
        (["-r", "a", "/"], 2, "cannot be a volume's name"),
        (["-r", "a", ".."], 2, "cannot be a volume's name"),
    ):
        assert main(["rm", str(store), *words]) == status
        (line,) = capsys.readouterr().err.splitlines()
        assert complaint in line
        assert (volumes(store), others(store)) == before
        capsys.readouterr()
    assert main(["rm", str(store / "missing"), "a"]) == 3


# ---- mv ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("a", "new", "new"),
        ("a", "d/new", "d/new"),
        ("b", "d", "d/b"),
        ("b", "d/e/", "d/e/b"),
        ("d/e/c", "/", "c"),
        ("x y", "empty", "empty/x y"),
    ],
)
def test_mv(store: Path, old: str, new: str, path: str) -> None:
    assert main(["mv", str(store), old, new]) == 0
    assert volumes(store) == sorted([*(name for name in NAMES if name != old), path])
    assert read(store, path) == content(old)


def test_mv_of_directories(store: Path) -> None:
    assert main(["mv", str(store), "d/e", "f"]) == 0
    assert main(["mv", str(store), "d", "empty"]) == 0
    assert volumes(store) == ["a", "b", "empty/d/a", "f/c", "x y"]


def test_mv_replaces_only_when_it_is_told_to(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for new, path in (("b", "b"), ("d/a", "d/a"), ("d", "d/a")):
        capsys.readouterr()
        assert main(["mv", str(store), "a", new]) == 11
        assert capsys.readouterr().err.startswith(f"difffs: {path} is in the store already")
    assert volumes(store) == NAMES
    assert main(["mv", str(store), "a", "d", "--force"]) == 0
    assert volumes(store) == ["b", "d/a", "d/e/c", "x y"]
    assert read(store, "d/a") == content("a")


def test_mv_says_what_cannot_be(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, status in (
        (["missing", "new"], 10),
        (["a", "a"], 2),
        (["a", "missing/new"], 2),
        (["a", "missing/"], 2),
        (["a", "b/new"], 2),
        (["d", "d/e/f"], 2),
        (["d", "d"], 2),
        (["a", "x" * 256], 2),
        (["a", ".."], 2),
        (["/", "new"], 2),
        (["d", "b", "--force"], 2),
    ):
        assert main(["mv", str(store), *words]) == status, words
        assert len(capsys.readouterr().err.splitlines()) == 1
        assert volumes(store) == NAMES
        capsys.readouterr()


# ---- ls ------------------------------------------------------------------------------------


def test_ls(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["ls", str(store), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["schema_version"] == 1
    assert [volume["name"] for volume in report["volumes"]] == NAMES
    assert [volume["size"] for volume in report["volumes"]] == [len(content(n)) for n in NAMES]
    for volume in report["volumes"]:
        assert volume["pages"] == -(-volume["size"] // PAGE_SIZE)
        assert volume["zero"] == 1
        assert TABLE_BYTES < volume["stored"] < TABLE_BYTES + volume["pages"] * PAGE_SIZE
        assert volume["factor"] == pytest.approx(
            volume["pages"] * PAGE_SIZE / volume["stored"], rel=1e-3
        )
    for key in ("size", "pages", "zero"):
        assert report["total"][key] == sum(volume[key] for volume in report["volumes"])

    assert main(["ls", str(store)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[45:] for line in lines] == ["name", *NAMES, "5 volumes"]
    assert f"{report['volumes'][0]['pages']:,}" in lines[1].split()


def test_ls_of_holes_and_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Store.create(tmp_path / "store") as opened:
        opened.namespace.set_size(opened.namespace.create("/hole"), 1 << 40)
    assert main(["ls", str(tmp_path / "store")]) == 0
    (line, total) = capsys.readouterr().out.splitlines()[1:]
    assert line.split() == ["1.00", "TiB", "0", "0", "B", "-", "hole"]
    assert total.split()[-2:] == ["1", "volume"]
    assert main(["ls", str(tmp_path / "missing")]) == 3
    assert main(["ls", str(tmp_path)]) == 3


def test_names_are_shown_on_one_line() -> None:
    assert printable("plain ünï") == "plain ünï"
    assert printable("a\nb\x1b[2J\u2028") == "a\\nb\\x1b[2J\\u2028"
    assert printable(b"caf\xe9".decode("utf-8", "surrogateescape")) == "caf\udce9"
