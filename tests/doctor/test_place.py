"""A store and a mount, seen from a process of its own."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from difffs.doctor import place
from difffs.doctor.check import Check
from difffs.doctor.host import Host
from difffs.store import Store
from difffs.store.format import FORMAT_VERSION
from tests.doctor.made_host import found
from tests.integration.harness import Mounted, mounted_store, obstacle

NO_MOUNT = {
    "exists": True,
    "store": "/srv/pages",
    "mountpoint": None,
    "is_store": True,
    "is_empty": False,
    "format_error": None,
    "layer": None,
    "remarks": [],
    "free": 1 << 30,
}
MOUNTED = {
    **NO_MOUNT,
    "mountpoint": "/mnt/pages",
    "options": ["rw", "allow_other"],
    "statistics_error": None,
    "kernel_settings": [],
}


def checks(host: Host, where: str | Path) -> dict[str, Check]:
    return {probe.name: found(probe, host) for probe in place.probes_of(host, str(where))}


def told(**seen: Any) -> dict[str, Check]:
    """What is made of what the other process says."""
    return checks(Host(run=lambda *_: json.dumps(seen)), "/srv/pages")


def refused(setting: str) -> dict[str, Any]:
    return {"setting": setting, "value": "1", "applied": False, "reason": "not permitted"}


def test_a_store(tmp_path: Path) -> None:
    with Store.create(tmp_path / "store", "default"):
        pass
    seen = checks(Host(), tmp_path / "store")
    assert seen["place.store"].state == "ok"
    assert "not mounted" in seen["place.store"].found
    assert seen["place.space"].state in ("ok", "limited")


def test_no_store(tmp_path: Path) -> None:
    for empty in (tmp_path / "empty", tmp_path / "absent" / "too"):
        tmp_path.joinpath("empty").mkdir(exist_ok=True)
        assert checks(Host(), empty)["place.store"].state == "off"
    (tmp_path / "file").touch()
    assert checks(Host(), tmp_path)["place.store"].state == "missing"
    assert checks(Host(), tmp_path / "file")["place.store"].state == "missing"
    assert not (tmp_path / "absent").exists(), "nothing is made"
    assert os.listdir(tmp_path / "empty") == []


def test_a_store_of_a_later_version(tmp_path: Path) -> None:
    with Store.create(tmp_path / "store", "default"):
        pass
    file = tmp_path / "store" / "format"
    if not file.exists():
        file = next(
            each for each in (tmp_path / "store").iterdir() if b"version" in each.read_bytes()
        )
    file.write_text(file.read_text().replace(f"version {FORMAT_VERSION}", "version 99"))
    check = checks(Host(), tmp_path / "store")["place.store"]
    assert check.state == "limited"
    assert "99" in check.found


def test_what_the_daemon_could_not_get() -> None:
    settings = [refused("mlockall"), refused("memory cgroup (was /a)")]
    seen = told(**{**MOUNTED, "kernel_settings": settings})
    assert seen["place.swap_settings"].state == "limited"
    assert "mlockall (not permitted)" in seen["place.swap_settings"].found
    assert seen["place.guest_settings"].state == "ok"
    seen = told(**{**MOUNTED, "kernel_settings": [refused("bdi strict_limit")]})
    assert seen["place.swap_settings"].state == "ok"
    assert seen["place.guest_settings"].state == "limited"
    assert seen["place.guest_settings"].matters_for == ("guests",)


def test_a_daemon_that_is_gone() -> None:
    dead = {**MOUNTED, "statistics_error": "Transport endpoint is not connected"}
    del dead["kernel_settings"]
    seen = told(**dead)
    assert seen["place.answers"].state == "limited"
    assert seen["place.swap_settings"].state == seen["place.guest_settings"].state == "unknown"


def test_what_the_store_lies_on() -> None:
    assert told(**NO_MOUNT)["place.medium"].state == "ok"
    seen = told(**{**NO_MOUNT, "layer": "the tmpfs /tmp"})
    assert seen["place.medium"].state == "limited"
    assert "the tmpfs /tmp" in seen["place.medium"].found
    assert told(**{**NO_MOUNT, "remarks": ["it cannot be told"]})["place.medium"].state == "unknown"
    assert told(**{**NO_MOUNT, "free": 1 << 20})["place.space"].state == "limited"


@pytest.mark.parametrize("said", ["", "no object", "{"])
def test_what_cannot_be_seen(said: str) -> None:
    (check,) = checks(Host(run=lambda *_: said), "/srv/pages").values()
    assert check.state == "unknown"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look at anything")
def test_a_store_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir(mode=0)
    (check,) = checks(Host(), tmp_path / "folder" / "store").values()
    assert check.state == "unknown"
    assert "Permission denied" in check.found


def test_who_may_come_in() -> None:
    assert told(**MOUNTED)["place.other_users"].state == "ok"
    assert told(**{**MOUNTED, "options": ["rw"]})["place.other_users"].state == "off"


@pytest.fixture(scope="module")
def mounted() -> Any:
    if obstacle():
        pytest.skip(str(obstacle()))
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("/dev/fuse is not this user's to open")
    with mounted_store() as mount:
        yield mount


@pytest.mark.integration
def test_a_mount(mounted: Mounted) -> None:
    for where in (mounted.path, mounted.store):
        seen = checks(Host(), where)
        assert seen["place.answers"].state == "ok"
        assert str(mounted.path) in seen["place.store"].found
        refusals = [each for each in mounted.statistics()["kernel_settings"] if not each["applied"]]
        limits = [seen[f"place.{use}_settings"].state for use in ("guest", "swap")]
        assert ("limited" in limits) == bool(refusals)


@pytest.mark.integration
def test_a_daemon_that_hangs(mounted: Mounted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "SECONDS", 1.0)
    process = mounted.process()
    os.kill(process, signal.SIGSTOP)
    try:
        began = time.monotonic()
        (check,) = checks(Host(), mounted.path).values()
        assert time.monotonic() - began < 5
    finally:
        os.kill(process, signal.SIGCONT)
    assert check.state == "limited"
    assert "does not answer" in check.found
