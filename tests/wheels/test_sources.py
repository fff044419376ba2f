"""Sources are what they are said to be, or nothing."""

from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from wheels.running import WheelError
from wheels.sources import SOURCES, Source, fetched, unpacked


@pytest.fixture
def mirror(tmp_path: Path) -> tuple[str, Source]:
    """A mirror in a folder, with one archive."""
    pool = tmp_path / "mirror/pool/main/t/thing"
    pool.mkdir(parents=True)
    archive = pool / "thing_1.0.orig.tar.gz"
    with tarfile.open(archive, "w:gz") as content:
        member = tarfile.TarInfo("thing-1.0/thing.h")
        member.size = 5
        content.addfile(member, io.BytesIO(b"int x"))
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    source = Source("thing", "1.0", f"main/t/thing/{archive.name}", digest, "LICENSE")
    return (tmp_path / "mirror").as_uri(), source


def test_downloaded_once(mirror: tuple[str, Source], tmp_path: Path) -> None:
    address, source = mirror
    archive = fetched(source, tmp_path / "kept", address)
    assert (unpacked(archive, tmp_path / "tree") / "thing.h").read_bytes() == b"int x"
    assert fetched(source, tmp_path / "kept", "file:///nowhere") == archive


def test_other_content_is_refused(mirror: tuple[str, Source], tmp_path: Path) -> None:
    address, source = mirror
    wrong = replace(source, sha256="0" * 64)
    with pytest.raises(WheelError, match=f"is not thing 1.0: its SHA-256 is {source.sha256}"):
        fetched(wrong, tmp_path / "kept", address)
    assert list((tmp_path / "kept").iterdir()) == []


def test_what_was_kept_is_looked_at_again(mirror: tuple[str, Source], tmp_path: Path) -> None:
    address, source = mirror
    archive = fetched(source, tmp_path / "kept", address)
    archive.write_bytes(b"damaged")
    assert fetched(source, tmp_path / "kept", address) == archive
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == source.sha256


def test_no_mirror(mirror: tuple[str, Source], tmp_path: Path) -> None:
    with pytest.raises(WheelError, match="cannot download file:///nowhere/pool/main/t/thing"):
        fetched(mirror[1], tmp_path / "kept", "file:///nowhere")


def test_names_of_files_have_the_version() -> None:
    for source in SOURCES:
        assert f"_{source.version}" in source.pool
        assert len(bytes.fromhex(source.sha256)) == 32
