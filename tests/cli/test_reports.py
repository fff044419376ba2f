"""stats and check: tables, objects, exit codes; and that they change nothing."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from difffs.cli.main import main
from difffs.cli.stats import table
from difffs.page import PAGE_SIZE
from difffs.store import Store
from tests.pages import guest_memory


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with one small volume."""
    image = tmp_path / "image"
    page = os.urandom(PAGE_SIZE)
    image.write_bytes(page * 3 + bytes(2 * PAGE_SIZE) + b"text " * 2000)
    path = tmp_path / "store"
    assert main(["import", str(path), str(image)]) == 0
    return path


def fingerprints(store: Path) -> dict[str, str]:
    """Return what all files of the store hold."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in store.rglob("*")
        if path.is_file()
    }


def test_stats(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    before = fingerprints(store)
    assert main(["stats", str(store)]) == 0
    text = capsys.readouterr().out
    assert main(["stats", str(store), "--json"]) == 0
    statistics = json.loads(capsys.readouterr().out)
    assert fingerprints(store) == before
    pages = statistics["pages"]
    assert pages["total"] == sum(count for route, count in pages.items() if route != "total")
    assert (pages["zero"], pages["identical"], pages["raw"]) == (2, 2, 1)
    sizes = statistics["bytes"]
    assert sizes["stored"] == sizes["payload"] + sizes["slack"] + sizes["metadata"]
    assert text.splitlines()[0].startswith(str(store))
    assert f"factor {statistics['factor']:.2f}" in text
    assert table(statistics) == text.rstrip("\n")


def test_table_of_an_empty_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store.create(tmp_path / "store").close()
    assert main(["stats", str(tmp_path / "store")]) == 0
    assert "total" in capsys.readouterr().out


def test_table_of_a_mount_s_requests(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", str(store), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    plain = table(told)
    assert "reads of a page" not in plain
    reads = {"count": 2000, "us": 0, "counts": [0, 1000, 979, 1, 20]}
    times = {"bounds_us": [1, 2, 5, 1000], "requests": {"page_read": reads}}
    told |= {"request_times": times, "failed_requests": {"EIO": 0, "ENOSPC": 0}}
    told["writing_stopped"] = False
    lines = table(told).removeprefix(plain).strip().splitlines()
    assert lines == ["reads of a page: 2,000, half of them within 2 us, 99 % within 1,000 us"]
    reads["counts"] = [0, 0, 0, 1, 1999]
    told["failed_requests"]["ENOSPC"] = 3
    told["writing_stopped"] = True
    first, second, third = table(told).removeprefix(plain).strip().splitlines()
    assert first.endswith("half of them above 1,000 us, 99 % above 1,000 us")
    assert second == "requests that failed: 3 with ENOSPC"
    assert third.startswith("writing has stopped")
    reads |= {"count": 0, "counts": [0] * 5}
    told["writing_stopped"] = False
    told["failed_requests"]["ENOSPC"] = 0
    assert table(told) == plain


def test_watch_needs_an_interval(store: Path) -> None:
    for seconds in ("0", "-1", "nan"):
        assert main(["stats", str(store), "--watch", seconds]) == 2


def test_stats_of_a_refined_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = tmp_path / "vm.mem"
    image.write_bytes(guest_memory(4, 400))
    assert main(["import", str(tmp_path / "s"), str(image)]) == 0
    capsys.readouterr()
    assert main(["stats", str(tmp_path / "s")]) == 0
    assert "refined, " not in capsys.readouterr().out
    assert main(["refine", str(tmp_path / "s"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert main(["stats", str(tmp_path / "s")]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = [each for each in lines if each.startswith("refined")]
    begin = f"refined, cold: {told['members']:,} pages in {told['groups']:,} groups of "
    assert line.startswith(begin)
    assert line.endswith(", 0 gone")


def test_stats_of_what_is_no_store(tmp_path: Path) -> None:
    assert main(["stats", str(tmp_path)]) == 3
    assert main(["stats", str(tmp_path / "missing")]) == 3
    assert main(["stats", "/proc/self"]) == 3


def test_a_clean_store(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = fingerprints(store)
    assert main(["check", str(store)]) == 0
    assert "clean" in capsys.readouterr().out
    assert main(["check", str(store), "--json", "--no-payloads"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["clean"]
    assert report["findings"] == []
    assert report["objects"] > 0
    assert fingerprints(store) == before


def test_a_damaged_payload(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    payloads = store / "payloads"
    content = bytearray(payloads.read_bytes())
    for at in range(0, len(content), 512):
        content[at] ^= 0x55
    payloads.write_bytes(content)
    capsys.readouterr()
    assert main(["check", str(store), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert not report["clean"]
    assert {finding["kind"] for finding in report["findings"]} == {"payload"}
    assert main(["check", str(store)]) == 1
    assert f"{len(report['findings'])} findings" in capsys.readouterr().out


def test_a_store_that_cannot_be_opened_is_a_finding(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (store / "payloads").unlink()
    capsys.readouterr()
    assert main(["check", str(store)]) == 1
    assert "payloads" in capsys.readouterr().out


def test_check_of_what_cannot_be_checked(store: Path, tmp_path: Path) -> None:
    assert main(["check", str(tmp_path)]) == 3
    good = (store / "format").read_text()
    (store / "format").write_text("difffs store\nversion 99\n")
    assert main(["check", str(store)]) == 4
    (store / "format").write_text(good)
    with Store.open(store):
        assert main(["check", str(store)]) == 5
