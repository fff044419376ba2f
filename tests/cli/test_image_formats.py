"""import and export of images in their formats: the same file back, and its memory as pages."""

import bz2
import contextlib
import gzip
import io
import json
import lzma
import os
import shutil
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from difffs.cli.main import main
from difffs.engine import Engine
from difffs.images.formats import FORMAT_NAMES
from difffs.store import Store
from tests.images.elf_builder import Mapping, elf_core
from tests.images.lime_builder import lime_dump
from tests.pages import guest_memory

MEMORY = guest_memory(seed=3, pages=200)
FIRMWARE = b"firmware" * 512
CORE = elf_core([(0, MEMORY), (0xFFFF_F000, FIRMWARE)], between=b"odd")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    """A place for a store, which is checked afterwards if there is one."""
    path = tmp_path / "store"
    yield path
    if path.exists():
        with Store.open(path, read_only=True) as opened:
            assert opened.check() == []


def put(store: Path, content: bytes, *options: str, name: str = "guest") -> int:
    """Import ``content``; return the exit status."""
    image = store.parent / "image"
    image.write_bytes(content)
    return main(["import", str(store), str(image), "--as", name, *options])


def get(store: Path, name: str, *options: str) -> bytes:
    """Export ``name`` and return what arrives."""
    path = store.parent / "exported"
    path.unlink(missing_ok=True)
    assert main(["export", str(store), name, str(path), *options]) == 0
    return path.read_bytes()


def report(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The JSON object on stdout."""
    loaded: dict[str, Any] = json.loads(capsys.readouterr().out)
    return loaded


def names(store: Path) -> set[str]:
    """All names in the store."""
    with Store.open(store, read_only=True) as opened:
        return {volume.name for volume in opened.namespace.volumes()}


def test_the_file_its_memory_and_its_blocks_come_back(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert put(store, CORE, "--json") == 0
    volume = report(capsys)["volumes"][0]
    assert volume["format"] == "elf"
    assert volume["memory"] == {"volume": "guest.ram", "size": len(MEMORY)}
    assert volume["size"] == len(CORE)
    assert names(store) == {"guest", "guest.ram"}
    assert get(store, "guest") == CORE
    assert get(store, "guest.ram") == get(store, "guest", "--raw") == MEMORY
    assert get(store, "guest", "--block", "memory@0xfffff000") == FIRMWARE
    capsys.readouterr()
    assert main(["export", str(store), "guest", str(store.parent / "x"), "--block", "none"]) == 2
    assert "memory@0xfffff000" in capsys.readouterr().err


def test_memory_is_shared_with_the_same_memory_in_another_form(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(store, MEMORY, "--json", name="raw")
    before = report(capsys)["store"]["bytes"]["payload"]
    put(store, CORE, "--json", name="core")
    put(store, lime_dump([(0, MEMORY)]), "--json", name="lime")
    capsys.readouterr()
    assert main(["stats", str(store), "--json"]) == 0
    assert report(capsys)["bytes"]["payload"] < before * 1.1


@pytest.mark.parametrize(
    "pack",
    [
        pytest.param(lambda data: gzip.compress(data, 6, mtime=0), id="gzip"),
        pytest.param(lambda data: bz2.compress(data, 9), id="bzip2"),
        pytest.param(lambda data: lzma.compress(data, preset=3), id="xz"),
        pytest.param(lambda data: zstandard.ZstdCompressor(5).compress(data), id="zstd"),
    ],
)
def test_a_compressed_image_is_unpacked_and_comes_back_in_the_form_that_is_said(
    store: Path, capsys: pytest.CaptureFixture[str], pack: Any
) -> None:
    packed = pack(CORE)
    assert put(store, packed, "--json") == 0
    volume = report(capsys)["volumes"][0]
    assert volume["packed"]["size"] == len(packed)
    assert get(store, "guest.ram") == MEMORY
    capsys.readouterr()
    content = get(store, "guest", "--json")
    assert content == {"original": packed, "unpacked": CORE}[report(capsys)["form"]]
    assert get(store, "guest", "--unpacked") == CORE
    again = get(store, "guest", "--recompress")
    if shutil.which("zstd") or not packed.startswith(b"\x28\xb5"):
        assert again[:4] == packed[:4]
    unpackers = (gzip.decompress, bz2.decompress, lzma.decompress, _unzstd)
    assert CORE in [_tried(unpack, again) for unpack in unpackers]


def _unzstd(data: bytes) -> bytes:
    with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)) as reader:
        return reader.read()


def _tried(unpack: Any, data: bytes) -> bytes:
    try:
        result: bytes = unpack(data)
    except Exception:
        return b""
    return result


@pytest.mark.skipif(shutil.which("lzop") is None, reason="no lzop (apt install lzop)")
def test_what_compressed_it_is_named_where_it_is_missing(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = subprocess.run(["lzop", "-c"], input=CORE, stdout=subprocess.PIPE, check=True).stdout
    assert put(store, packed) == 0
    monkeypatch.setenv("PATH", "/nowhere")
    capsys.readouterr()
    assert main(["export", str(store), "guest", str(store.parent / "x"), "--recompress"]) == 2
    assert "apt install lzop" in capsys.readouterr().err
    assert get(store, "guest") == CORE
    assert "unpacked form" in capsys.readouterr().err


def test_compressed_plain_memory_is_unpacked(store: Path) -> None:
    assert put(store, gzip.compress(MEMORY)) == 0
    assert get(store, "guest.ram") == get(store, "guest", "--unpacked") == MEMORY


@pytest.mark.parametrize("option", ["--as-is", "--format=raw"])
def test_what_is_said_counts_more_than_the_content(store: Path, option: str) -> None:
    assert put(store, CORE, option) == 0
    assert names(store) == {"guest"}
    assert get(store, "guest") == CORE


@pytest.mark.parametrize("name", [name for name in FORMAT_NAMES if name not in ("elf", "xen")])
def test_a_format_that_it_is_not_is_an_error(
    store: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert put(store, CORE, "--format", name) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "leave out --format" in error
    assert not store.exists() or names(store) == set()


def test_formats_that_nobody_knows_are_refused_before_a_store_is_made(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert put(store, CORE, "--format", "word") == 2
    error = capsys.readouterr().err
    assert all(name in error for name in FORMAT_NAMES)
    assert put(store, CORE, "--format", "elf", "--as-is") == 2
    assert not store.exists()


@pytest.mark.parametrize("packed", [False, True])
def test_a_damaged_image_is_one_line_and_nothing_half(
    store: Path, capsys: pytest.CaptureFixture[str], packed: bool
) -> None:
    put(store, MEMORY, name="before")
    capsys.readouterr()
    cut = CORE[: len(CORE) // 2]
    assert put(store, gzip.compress(cut) if packed else cut) == 6
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "damaged or cut off at" in error
    assert "--as-is" in error
    assert names(store) == {"before"}
    with Store.open(store) as opened:
        while opened.remove_some():
            pass
    assert names(store) == {"before"}


def test_check_names_an_image_that_is_not_as_it_was_imported(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(store, CORE)
    with Store.open(store) as opened, Engine(opened) as engine:
        memory = opened.namespace.lookup("/guest").memory
        engine.write(memory, [3], MEMORY[:4096])
    capsys.readouterr()
    assert main(["check", str(store), "--json"]) == 1
    [finding] = report(capsys)["findings"]
    assert finding == {
        "kind": "image",
        "where": "guest",
        "text": "its bytes are not those that were imported",
    }
    assert main(["check", str(store), "--no-payloads"]) == 0
    with Store.open(store) as opened, Engine(opened) as engine:
        engine.write(memory, [3], MEMORY[3 * 4096 : 4 * 4096])
    assert main(["check", str(store)]) == 0
    with Store.open(store) as opened, Engine(opened) as engine:
        engine.write(opened.namespace.lookup("/guest").skeleton, [0], bytes(4096))
    capsys.readouterr()
    assert main(["check", str(store), "--no-payloads"]) == 1
    assert "image: guest: the image's head is damaged" in capsys.readouterr().out


def test_both_names_must_be_free(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(store, MEMORY, name="guest.ram")
    assert put(store, CORE) == 11
    assert "guest.ram, the name of guest's memory, is in the store" in capsys.readouterr().err
    assert names(store) == {"guest.ram"}
    assert put(store, CORE, name="x" * 253) == 2
    assert "too long" in capsys.readouterr().err


def test_the_core_of_a_process_is_stored_as_it_is_and_that_is_said(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stretches = [(0, MEMORY), (0, MEMORY[:8192])]
    core = elf_core(stretches, [Mapping(0, 0, 8192, 0x400000), Mapping(1, 0, 8192, 0x7F0000000000)])
    assert put(store, core) == 0
    assert "process" in capsys.readouterr().err
    assert names(store) == {"guest"}
    assert get(store, "guest") == core


def test_an_image_comes_through_a_pipe(store: Path) -> None:
    for name, content in (("core", CORE), ("packed", gzip.compress(CORE)), ("raw", MEMORY[:99])):
        fifo = store.parent / f"fifo-{name}"
        os.mkfifo(fifo)
        writer = threading.Thread(target=fifo.write_bytes, args=(content,))
        writer.start()
        assert main(["import", str(store), str(fifo), "--as", name]) == 0
        writer.join()
    assert get(store, "core") == get(store, "packed", "--unpacked") == CORE
    assert get(store, "raw") == MEMORY[:99]


def test_options_of_images_are_refused_for_plain_volumes(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(store, MEMORY)
    for option in ("--raw", "--unpacked", "--recompress"):
        assert main(["export", str(store), "guest", str(store.parent / "x"), option]) == 2
        assert "plain" in capsys.readouterr().err


def test_memory_goes_with_the_image_when_both_names_are_gone(store: Path) -> None:
    put(store, CORE)
    assert main(["rm", str(store), "guest.ram"]) == 0
    assert get(store, "guest") == CORE
    assert main(["rm", str(store), "guest"]) == 0
    with Store.open(store, read_only=True) as opened:
        assert len(opened.namespace) == 1
        assert opened.object_count() == 0


def test_an_exported_image_is_sparse_where_it_was(store: Path) -> None:
    memory = MEMORY[:8192] + bytes(8 << 20) + MEMORY[:4096]
    put(store, elf_core([(0, memory)]))
    assert get(store, "guest") == elf_core([(0, memory)])
    assert (store.parent / "exported").stat().st_blocks * 512 < 1 << 20
    assert stat.S_IMODE((store.parent / "exported").stat().st_mode) == stat.S_IMODE(
        (store.parent / "image").stat().st_mode
    )


@pytest.mark.parametrize("order", [["vm", "vm.ram"], ["vm.ram", "vm"]])
def test_the_name_of_a_memory_is_looked_at_before_anything_is_stored(
    store: Path, capsys: pytest.CaptureFixture[str], order: list[str]
) -> None:
    (store.parent / "vm").write_bytes(CORE)
    (store.parent / "vm.ram").write_bytes(MEMORY)
    images = [str(store.parent / name) for name in order]
    assert main(["import", str(store), *images, str(store.parent / "vm")[:-2] + "vm"]) == 2
    assert "given twice" in capsys.readouterr().err
    (store.parent / "other").write_bytes(MEMORY)
    assert main(["import", str(store), *images, str(store.parent / "other")]) == 2
    assert "would both be vm.ram" in capsys.readouterr().err
    assert not store.exists()


def test_a_memorys_name_that_was_taken_meanwhile_is_refused(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fifo = store.parent / "vm"  # what comes through it is known when it comes
    os.mkfifo(fifo)
    (store.parent / "vm.ram").write_bytes(MEMORY)
    writer = threading.Thread(target=_write, args=(fifo, CORE), daemon=True)
    writer.start()
    assert main(["import", str(store), str(fifo), str(fifo) + ".ram", "--json"]) == 11
    writer.join(10)
    assert "vm.ram is in the store already" in capsys.readouterr().err
    assert names(store) == {"vm", "vm.ram"}


def _write(path: Path, content: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):
        path.write_bytes(content)
