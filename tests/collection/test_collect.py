"""Collecting, as far as it goes without guests."""

from __future__ import annotations

from pathlib import Path

import pytest
from collection import collect
from collection.collect import BUILD_FOLDER, Collection, Stopwatch
from collection.manifest import Manifest
from collection.plan import SMALL


def test_a_stopwatch_counts_what_it_was_asked_for_in_time() -> None:
    times = iter([100.0, 100.5, 101.0, 161.0, 161.25, 165.0, 165.5])
    watch = Stopwatch(lambda: next(times))
    watch.tick()
    watch.tick()
    assert watch.seconds == 1.0
    watch.tick()
    assert watch.seconds == 1.0, "a minute in which the process stood still"
    watch.tick()
    assert watch.seconds == 1.25
    watch.skip()
    watch.tick()
    assert watch.seconds == 1.75


def test_a_disk_that_cannot_be_built_fails_its_guests_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no debootstrap there
    said: list[str] = []
    manifest = Manifest(tmp_path)
    failures = Collection(tmp_path, manifest, "tcg", "http://localhost:1", said.append).run(
        SMALL, jobs=2
    )
    assert set(failures) == {f"{member.corpus}/{member.name}" for member in SMALL}
    assert all("cannot be built" in reason for reason in failures.values())
    assert not any(manifest.has(member) for member in SMALL)
    assert said[-1] == "2 of 2 guests done"


def test_memory_goes_where_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with collect._memory_folder(tmp_path, 1) as folder:
        assert folder.is_dir()
    assert not folder.exists()
    monkeypatch.setattr(collect, "_SHARED_MEMORY", tmp_path / BUILD_FOLDER)
    with collect._memory_folder(tmp_path, 1) as folder:
        assert folder.parent == tmp_path
    with collect._memory_folder(tmp_path, 1 << 50) as folder:
        assert folder.parent == tmp_path
    assert not folder.exists()
