"""import and export: what goes in comes out, whatever its size and shape, or nothing happens."""

import json
import os
import random
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difffs.cli.main import main
from difffs.codec import Codec
from difffs.engine import Engine
from difffs.errors import StoreFull
from difffs.page import PAGE_SIZE
from difffs.progress import Progress
from difffs.recipe import RECIPES
from difffs.store import Store
from tests.pages import guest_memory

BATCH = 4 << 20


def image(size: int, seed: int = 1) -> bytes:
    """Something like memory: zeros, words, text and noise."""
    source = random.Random(seed)
    parts = bytearray()
    while len(parts) < size:
        kind = source.randrange(4)
        if kind == 0:
            parts += bytes(PAGE_SIZE * source.randrange(1, 4))
        elif kind == 1:
            parts += b"words %d " % source.randrange(9) * (PAGE_SIZE // 8)
        elif kind == 2:
            parts += source.randbytes(PAGE_SIZE)
        else:
            parts += source.randbytes(8) * (PAGE_SIZE // 8)
    return bytes(parts[:size])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    """A place for a store, which is checked afterwards if there is one."""
    path = tmp_path / "store"
    yield path
    if path.exists():
        with Store.open(path, read_only=True) as opened:
            assert opened.check() == []


def put(store: Path, name: str, content: bytes) -> None:
    """Import ``content`` under ``name``."""
    path = store.parent / "image"
    path.write_bytes(content)
    assert main(["import", str(store), str(path), name]) == 0


def get(store: Path, name: str) -> bytes:
    """Export ``name`` and return what arrives."""
    path = store.parent / "exported"
    assert main(["export", str(store), name, str(path)]) == 0
    return path.read_bytes()


@pytest.mark.parametrize(
    "size",
    [0, 1, 4095, 4096, 4097, 100_000, BATCH - 1, BATCH, BATCH + 1, 2 * BATCH + 5000],
)
def test_any_size(store: Path, size: int) -> None:
    content = image(size)
    put(store, "volume", content)
    assert get(store, "volume") == content
    with Store.open(store, read_only=True) as opened:
        assert opened.namespace.lookup("/volume").size == size


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 20_000)), max_size=6))
@settings(max_examples=15, deadline=None)
def test_sparse_images(
    tmp_path_factory: pytest.TempPathFactory, runs: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("sparse")
    source = folder / "source"
    with source.open("wb") as stream:
        for page, length in runs:
            stream.seek(page * PAGE_SIZE + 17)
            stream.write(image(length, page))
        stream.truncate(400 * PAGE_SIZE + 99)
    store = folder / "store"
    assert main(["import", str(store), str(source)]) == 0
    assert get(store, "source") == source.read_bytes()
    dense = folder / "dense"
    dense.write_bytes(source.read_bytes())
    assert main(["import", str(folder / "other"), str(dense)]) == 0
    counts = []
    for path in (store, folder / "other"):
        with Store.open(path, read_only=True) as opened:
            assert opened.check() == []
            counts.append(opened.page_counts())
    assert counts[0] == counts[1], "a hole is a page of zeros"


def test_what_is_exported_is_sparse(store: Path) -> None:
    put(store, "volume", b"x" * PAGE_SIZE + bytes(16 << 20) + b"y")
    content = get(store, "volume")
    assert len(content) == PAGE_SIZE + (16 << 20) + 1
    assert (store.parent / "exported").stat().st_blocks * 512 < 1 << 20


def test_mode_and_time_come_along(store: Path) -> None:
    source = store.parent / "source"
    source.write_bytes(b"secret")
    source.chmod(0o600)
    assert main(["import", str(store), str(source)]) == 0
    get(store, "source")
    assert stat.S_IMODE((store.parent / "exported").stat().st_mode) == 0o600


def test_names(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(store, "a/b/c", b"deep")
    put(store, "ünï cödé", b"x")
    assert get(store, "a/b/c") == b"deep"
    assert get(store, "/a/b/c") == b"deep"
    source = store.parent / "image"
    for name in ("..", "a/../b", "a//b", "/", "a/b/c/d"):
        assert main(["import", str(store), str(source), name]) == 2
    assert main(["import", str(store), str(source), "a/b/c"]) == 11
    assert main(["import", str(store), str(source), "a/b"]) == 11
    assert main(["export", str(store), "a/b", "x"]) == 10
    capsys.readouterr()
    assert main(["export", str(store), "missing", "x"]) == 10
    assert "a/b/c" in capsys.readouterr().err


def test_a_refused_import_changes_nothing(store: Path) -> None:
    put(store, "volume", b"first")
    assert main(["import", str(store), str(store.parent / "image"), "volume"]) == 11
    assert get(store, "volume") == b"first"


def volumes(store: Path) -> dict[str, bytes]:
    """Every volume's name and content."""
    with Store.open(store, read_only=True) as opened:
        names = [opened.namespace.path(each.number)[1:] for each in opened.namespace.volumes()]
        assert opened.namespace.orphans() == []
    return {name: get(store, name) for name in names}


@pytest.fixture
def images(store: Path) -> dict[str, bytes]:
    """Four image files beside the store, by name."""
    contents = {name: image(10_000 + number, number) for number, name in enumerate("abcd")}
    for name, content in contents.items():
        (store.parent / name).write_bytes(content)
    return contents


def test_several_images_are_several_volumes(
    store: Path, images: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(store.parent / name) for name in images]
    assert main(["import", str(store), *paths[:2]]) == 0
    assert main(["import", str(store), *paths[2:], "--json"]) == 0
    output = capsys.readouterr().out
    assert volumes(store) == images
    assert "imported a: " in output
    assert "imported b: " in output
    report = json.loads(output[output.index("{") :])
    assert [volume["volume"] for volume in report["volumes"]] == ["c", "d"]
    assert [volume["image"] for volume in report["volumes"]] == paths[2:]
    assert report["size"] == sum(volume["size"] for volume in report["volumes"]) == 20_005
    assert "volume" not in report
    assert report["store"]["bytes"]["logical"] > 0


def test_the_second_word_is_a_name_unless_it_is_a_file(
    store: Path,
    images: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(store.parent)
    (store.parent / "folder").mkdir()
    assert main(["import", str(store), "a", "folder"]) == 0  # a directory is no image
    assert main(["import", str(store), "a", "new"]) == 0
    assert main(["import", str(store), "b", "--as", "c"]) == 0  # although there is such a file
    capsys.readouterr()
    assert main(["import", str(store), "a", "b", "--json"]) == 0
    assert [each["volume"] for each in json.loads(capsys.readouterr().out)["volumes"]] == ["a", "b"]
    assert volumes(store) == {
        **dict.fromkeys(("folder", "new", "a"), images["a"]),
        **dict.fromkeys(("b", "c"), images["b"]),
    }


def test_what_is_wrong_is_said_before_anything_is_stored(
    store: Path, images: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = store.parent
    (folder / "more").mkdir()
    (folder / "more" / "a").write_bytes(b"x")
    a, b, c = (str(folder / name) for name in "abc")
    for words, complaint in (
        ([a, b, str(folder / "more" / "a")], "would both be a"),
        ([a, a], "is given twice"),
        ([a, b, str(folder / "missing")], "missing cannot be opened"),
        ([a, b, str(folder / "more")], "is a directory"),
        ([a, b, "-"], "--as NAME"),
        ([a, "-"], "--as NAME"),
        ([a, b, "--as", "x"], "2 images"),
        ([a, b, "--skip", "1M"], "--skip leaves out 1,048,576"),
        ([a, "--skip", "10001"], "--skip leaves out 10,001"),
        ([a, "--as", "x" * 256], "255 bytes"),
        ([a, "--skip=-1"], "is no size"),
    ):
        assert main(["import", str(store), *words]) == 2
        assert complaint in capsys.readouterr().err
        assert not store.exists()
    assert main(["import", str(store), c]) == 0
    assert main(["import", str(store), a, b, c]) == 11
    assert volumes(store) == {"c": images["c"]}


def test_each_of_several_images_is_whole_or_absent(
    store: Path, images: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    liar = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not liar.exists():
        pytest.skip("no such file in /sys, whose size is not what it holds")
    paths = [str(store.parent / "a"), str(liar), str(store.parent / "b")]
    assert main(["import", str(store), *paths]) == 2
    error = capsys.readouterr().err
    assert "of 4,096 bytes" in error
    assert "imported before it: a" in error
    assert len(error.splitlines()) == 1
    assert volumes(store) == {"a": images["a"]}


def test_images_that_come_through_named_pipes(store: Path, images: dict[str, bytes]) -> None:
    pipes = [store.parent / "one.pipe", store.parent / "two.pipe"]
    for pipe in pipes:
        os.mkfifo(pipe)
    feeders = [
        subprocess.Popen(["sh", "-c", 'cat "$0" >"$1"', store.parent / name, pipe])
        for name, pipe in zip("ab", pipes, strict=True)
    ]
    assert main(["import", str(store), *map(str, pipes)]) == 0
    assert [feeder.wait(20) for feeder in feeders] == [0, 0]
    assert volumes(store) == {"one.pipe": images["a"], "two.pipe": images["b"]}


@pytest.mark.parametrize("skip", ["0", "1", "4096", "4K", "5000"])
def test_skip(store: Path, images: dict[str, bytes], skip: str) -> None:
    count = {"4K": 4096}.get(skip) or int(skip)
    path = store.parent / "a"
    assert main(["import", str(store), str(path), "--skip", skip]) == 0
    difffs = [sys.executable, "-m", "difffs"]
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as feeder:
        subprocess.run(
            [*difffs, "import", store, "-", "piped", "--skip", skip],
            stdin=feeder.stdout,
            check=True,
        )
    assert volumes(store) == dict.fromkeys(("a", "piped"), images["a"][count:])


def test_stdin_that_is_a_file_is_read_from_where_it_stands(
    store: Path, images: dict[str, bytes]
) -> None:
    script = (
        f'difffs() {{ {sys.executable} -m difffs "$@"; }}\n'
        "{ head -c 0; dd bs=5000 count=1 status=none of=/dev/null;"
        " difffs import $1 - volume && cat; } <$2"
    )
    done = subprocess.run(
        ["bash", "-c", script, "bash", store, store.parent / "a"], capture_output=True, check=True
    )
    assert done.stdout.count(b"\n") == 2, "nothing is left to be read"
    assert volumes(store) == {"volume": images["a"][5000:]}


def test_an_image_that_grows_is_imported_as_it_was(
    store: Path,
    images: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = store.parent / "a"
    original = Engine.write

    def grow(self: Engine, *arguments: object) -> None:
        with path.open("ab") as file:
            file.write(b"more")
        original(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Engine, "write", grow)
    assert main(["import", str(store), str(path)]) == 0
    assert "has grown" in capsys.readouterr().err
    assert volumes(store) == {"a": images["a"]}


def test_recipes(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = store.parent / "source"
    source.write_bytes(image(100_000))
    arguments = ["import", str(store), str(source)]
    assert main([*arguments, "one", "--recipe", "identical-only"]) == 0
    assert main([*arguments, "two", "--recipe", "identical-only"]) == 0
    assert main([*arguments, "three"]) == 0
    assert main([*arguments, "four", "--recipe", "fast"]) == 9
    assert main([*arguments, "four", "--recipe", "fast", "--change-recipe"]) == 0
    with Store.open(store, read_only=True) as opened:
        assert opened.recipe.name == "fast"
    assert main([*arguments, "five", "--change-recipe"]) == 2
    assert main([*arguments, "five", "--recipe", "nonsense"]) == 2
    assert "patch-only" in capsys.readouterr().err


@pytest.mark.parametrize("codec", [codec for codec in Codec if codec.is_patch])
def test_images_come_back_from_patches_of_every_codec(
    store: Path, codec: Codec, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = replace(RECIPES["patch-only"], name="changed", patch_codec=codec)
    monkeypatch.setitem(RECIPES, "changed", changed)
    content = guest_memory(codec, 600)
    source = store.parent / "source"
    source.write_bytes(content)
    assert main(["import", str(store), str(source), "one", "--recipe", "changed", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["store"]["pages"]["patch"] > 0
    put(store, "two", content[::-1])
    assert get(store, "one") == content
    assert get(store, "two") == content[::-1]
    assert main(["check", str(store)]) == 0


def test_json(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = store.parent / "source"
    source.write_bytes(image(100_000))
    assert main(["import", str(store), str(source), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["schema_version"] == 1
    assert report["size"] == 100_000
    assert report["store"]["bytes"]["logical"] == 25 * PAGE_SIZE
    assert report["store"]["factor"] > 0
    assert main(["export", str(store), "source", str(store.parent / "out"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["size"] == 100_000


def test_summary(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(store, "volume", image(1 << 20))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("imported volume: 1.00 MiB in ")
    assert "factor" in lines[1]


def test_through_pipes(store: Path) -> None:
    content = image(5_000_001)
    difffs = [sys.executable, "-m", "difffs"]
    subprocess.run([*difffs, "import", store, "-", "volume"], input=content, check=True)
    done = subprocess.run(
        [*difffs, "export", store, "volume", "-"], capture_output=True, check=True
    )
    assert done.stdout == content
    assert b"exported volume" in done.stderr
    assert main(["import", str(store), "-"]) == 2


def test_a_reader_that_goes_away(store: Path) -> None:
    put(store, "volume", image(8 << 20))
    difffs = f"{sys.executable} -m difffs"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {difffs} export {store} volume - | head -c 10 | wc -c"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "10"
    assert "Traceback" not in done.stderr


def test_bad_images(store: Path, tmp_path: Path) -> None:
    assert main(["import", str(store), str(tmp_path / "missing")]) == 2
    assert main(["import", str(store), str(tmp_path)]) == 2
    assert not store.exists()
    put(store, "volume", b"x")
    assert main(["export", str(store), "volume", str(tmp_path)]) == 2
    assert main(["export", str(store), "volume", str(tmp_path / "no" / "where")]) == 2


def test_bad_stores(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x")
    assert main(["export", str(tmp_path / "missing"), "x", "y"]) == 3
    letters = tmp_path / "letters"
    letters.mkdir()
    (letters / "letter").touch()
    assert main(["import", str(letters), str(source)]) == 3
    assert os.listdir(letters) == ["letter"]


def test_a_store_that_is_open(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(store, "volume", b"x")
    with Store.open(store):
        assert main(["export", str(store), "volume", "x"]) == 5
        assert main(["import", str(store), str(store.parent / "image"), "other"]) == 5
    assert str(os.getpid()) in capsys.readouterr().err


def test_an_export_replaces_only_when_it_is_whole(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "volume", image(1 << 20))
    target = store.parent / "target"
    target.write_bytes(b"precious")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fail)
        assert main(["export", str(store), "volume", str(target)]) == 8
    assert target.read_bytes() == b"precious"
    assert sorted(path.name for path in store.parent.iterdir()) == ["image", "store", "target"]


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), StoreFull("full")])
def test_a_failed_import_leaves_no_volume(
    store: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    put(store, "kept", image(500_000))
    original = Engine.write
    calls = 0

    def fail_later(self: Engine, *arguments: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise error
        original(self, *arguments)  # type: ignore[arg-type]

    source = store.parent / "source"
    source.write_bytes(image(3 * BATCH))
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "write", fail_later)
        assert main(["import", str(store), str(source)]) == (13 if type(error) is OSError else 8)
    with Store.open(store, read_only=True) as opened:
        assert [inode.name for inode in opened.namespace.volumes()] == ["kept"]
        assert opened.namespace.orphans() == []
        assert opened.page_counts()["total"] == -(-500_000 // PAGE_SIZE)
    assert get(store, "kept") == image(500_000)


def test_an_interrupted_import_leaves_no_volume(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    source = store.parent / "source"
    source.write_bytes(image(2 * BATCH))
    monkeypatch.setattr(Progress, "update", interrupt)
    assert main(["import", str(store), str(source)]) == 130
    with Store.open(store, read_only=True) as opened:
        assert opened.namespace.volumes() == []
        assert opened.page_counts()["total"] == 0


def test_a_failed_import_leaves_no_directories(
    store: Path, images: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Engine) -> None:
        raise StoreFull("full")

    assert main(["import", str(store), str(store.parent / "a"), "kept/a"]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "commit", fail)
        assert main(["import", str(store), str(store.parent / "b"), "kept/new/b"]) == 8
    with Store.open(store, read_only=True) as opened:
        assert not opened.namespace.exists("/kept/new")
    assert volumes(store) == {"kept/a": images["a"]}


def test_a_killed_import_leaves_a_clean_store(store: Path) -> None:
    """Killed behind a commit in its middle; and the next opening for writing frees its space."""
    put(store, "kept", image(500_000))
    before = occupied(store)
    # More pages than a commit's worth, each of its own, and then nothing, so that it waits.
    script = f"""
import os, signal, sys
from difffs import engine
from difffs.cli.main import main
from difffs.store import Store
engine.COMMIT_EVERY = 4
commit = Store.commit
def commit_and_die(self):
    commit(self)
    if self.namespace.orphans() and self.page_counts()["total"] > 4000:
        os.kill(os.getpid(), signal.SIGKILL)
Store.commit = commit_and_die
main(["import", {str(store)!r}, "-", "half"])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], input=os.urandom(40 << 20), check=False, timeout=120
    )
    assert done.returncode == -signal.SIGKILL
    with Store.open(store, read_only=True) as opened:
        assert opened.check() == []
        assert len(opened.namespace.orphans()) == 1
        assert opened.namespace.orphans()[0].size > 8 << 20
        assert not opened.namespace.exists("/half")
    assert occupied(store) > before + (8 << 20)
    Store.open(store).close()
    assert occupied(store) < before + (1 << 20)
    put(store, "half", b"its name is free")
    assert volumes(store) == {"kept": image(500_000), "half": b"its name is free"}


def occupied(store: Path) -> int:
    """Bytes that the store's files occupy."""
    return sum(path.stat().st_blocks * 512 for path in store.rglob("*") if path.is_file())
