"""stats --prometheus: what Prometheus's own parser makes of it, and the file."""

import json
import math
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from difffs import __version__
from difffs.cli.main import main
from difffs.cli.metrics import exposition
from difffs.libraries import library_versions
from difffs.page import PAGE_SIZE

ROUTES = ("zero", "same", "identical", "patch", "compress", "raw")
UNITS = ("_bytes", "_seconds", "_pages", "_requests", "_info")
PLAIN = (
    "difffs_pages",
    "difffs_objects",
    "difffs_factor",
    "difffs_store_mounted",
    "difffs_kernel_setting_applied",
    "difffs_writing_stopped",
    "difffs_domain_objects",
    "difffs_domain_factor",
    "difffs_domains_left_out",
)
"""Names without a unit: numbers of things, a ratio, and what is true or not."""

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parsed(text: str) -> Samples:
    """All samples, each there once, without a time."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
        for sample in family.samples:
            assert sample.timestamp is None
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
            if family.type == "histogram":
                assert sample.name.removeprefix(family.name) in ("_bucket", "_sum", "_count")
            else:
                assert sample.name.endswith("_total") == (family.type == "counter")
                assert family.type in ("counter", "gauge")
        assert family.name.startswith("difffs_")
        assert family.name.endswith(UNITS) or family.name in PLAIN
    return found


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"difffs_{name}", frozenset(labels.items())]


@pytest.fixture
def store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A store with one small volume."""
    image = tmp_path / "image"
    image.write_bytes(os.urandom(PAGE_SIZE) * 3 + bytes(2 * PAGE_SIZE) + b"text " * 2000)
    path = tmp_path / "store"
    assert main(["import", str(path), str(image)]) == 0
    capsys.readouterr()
    return path


def statistics_of(store: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["stats", str(store), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_same_figures_as_json(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = statistics_of(store, capsys)
    assert main(["stats", str(store), "--prometheus"]) == 0
    samples = parsed(capsys.readouterr().out)
    where = {"store": str(store)}
    for route in ROUTES:
        work = told["routes"][route]
        labels = {**where, "route": route}
        assert value(samples, "pages", **labels) == told["pages"][route]
        assert value(samples, "written_pages_total", **labels) == work["count"]
        assert value(samples, "written_bytes_total", **labels) == work["bytes_in"]
        assert value(samples, "encoded_bytes_total", **labels) == work["bytes_out"]
        assert value(samples, "encode_seconds_total", **labels) == work["encode_us"] / 1e6
    sizes = told["bytes"]
    parts = [value(samples, "stored_bytes", **where, part=part) for part in
             ("payload", "slack", "metadata")]  # fmt: skip
    assert parts == [sizes["payload"], sizes["slack"], sizes["metadata"]]
    assert sum(parts) == sizes["stored"]
    assert value(samples, "logical_bytes", **where) == sizes["logical"]
    assert value(samples, "factor", **where) == told["factor"]
    assert value(samples, "objects", **where) == told["objects"]
    assert value(samples, "store_made_timestamp_seconds", **where) == told["since"]
    assert value(samples, "store_mounted", **where) == 0
    assert value(samples, "store_info", **where, recipe="default") == 1
    assert value(samples, "build_info", **where, version=__version__, **library_versions()) == 1


def of_a_mount(store: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The store's statistics with what a mount of it adds."""
    told = statistics_of(store, capsys)
    told["mountpoint"] = "/mnt/pages"
    told["memory"] |= {"daemon_rss": 1 << 24, "write_buffer": 8192, "write_buffer_limit": 1 << 25}
    told["routes"]["patch"] |= {"decode_count": 3, "decode_us": 2_500_000}
    told["kernel_settings"] = [
        {"setting": "max_ratio", "value": 100, "applied": True, "reason": ""},
        {"setting": "max_ratio", "value": 1, "applied": False, "reason": "not root"},
    ]
    told |= {"write_wait_us": 1_500_000, "writing_stopped": False}
    told["failed_requests"] = {"EIO": 2, "ENOSPC": 0}
    times = {
        "page_read": {"count": 6, "us": 10_000_021, "counts": [3, 2, 0, 1]},
        "write": {"count": 0, "us": 0, "counts": [0, 0, 0, 0]},
    }
    told["request_times"] = {"bounds_us": [1, 20, 10_000_000], "requests": times}
    return told


def test_a_mount_has_more(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = parsed(exposition([of_a_mount(store, capsys)], {}))
    where = {"store": str(store)}
    assert value(samples, "store_mounted", **where) == 1
    assert value(samples, "daemon_resident_bytes", **where) == 1 << 24
    assert value(samples, "write_buffer_bytes", **where) == 8192
    assert value(samples, "decoded_pages_total", **where, route="patch") == 3
    assert value(samples, "decode_seconds_total", **where, route="patch") == 2.5
    assert value(samples, "kernel_setting_applied", **where, setting="max_ratio") == 0
    assert value(samples, "write_buffer_limit_bytes", **where) == 1 << 25
    assert value(samples, "write_wait_seconds_total", **where) == 1.5
    assert value(samples, "writing_stopped", **where) == 0
    assert value(samples, "failed_requests_total", **where, error="EIO") == 2
    assert value(samples, "failed_requests_total", **where, error="ENOSPC") == 0


def test_a_histogram(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = parsed(exposition([of_a_mount(store, capsys)], {}))
    where = {"store": str(store), "request": "page_read"}
    reached = {
        float(dict(labels)["le"]): count
        for (name, labels), count in samples.items()
        if name == "difffs_request_seconds_bucket" and where.items() <= dict(labels).items()
    }
    assert reached == {1e-6: 3, 2e-5: 5, 10: 5, math.inf: 6}
    assert value(samples, "request_seconds_sum", **where) == 10.000021
    assert value(samples, "request_seconds_count", **where) == 6
    where["request"] = "write"
    assert value(samples, "request_seconds_bucket", **where, le="+Inf") == 0
    assert value(samples, "request_seconds_count", **where) == 0


def test_a_mount_whose_requests_are_not_timed(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = of_a_mount(store, capsys)
    del told["request_times"], told["failed_requests"]
    names = {name for name, _ in parsed(exposition([told], {}))}
    assert "difffs_write_wait_seconds_total" in names
    assert not [name for name in names if "request" in name]


def test_a_daemon_of_an_earlier_version(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It goes on running when the command is exchanged."""
    told = of_a_mount(store, capsys)
    for key in ("request_times", "failed_requests", "write_wait_us", "writing_stopped"):
        del told[key]
    del told["memory"]["write_buffer_limit"]
    assert value(parsed(exposition([told], {})), "store_mounted", store=str(store)) == 1


def test_what_only_a_mount_has_is_absent_without_one(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stats", str(store), "--prometheus"]) == 0
    names = {name for name, _ in parsed(capsys.readouterr().out)}
    assert not [name for name in names if re.search("request|buffer|wait|stopped|decode", name)]
    told = statistics_of(store, capsys)
    assert not told.keys() & {"request_times", "failed_requests", "write_wait_us"}


def test_the_table_of_the_documents(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, other = tmp_path / "image", tmp_path / "with-domains"
    image.write_bytes(bytes(4096))
    assert main(["import", "--domains", str(other), str(image), "one/vm"]) == 0
    capsys.readouterr()
    told_by = [of_a_mount(store, capsys), of_a_mount(other, capsys)]
    samples = parsed(exposition(told_by, library_versions()))
    document = (Path(__file__).parents[2] / "docs/operations.md").read_text()
    rows = re.findall(r"^\| (`difffs_.*?) \| (.*?) \|", document, re.MULTILINE)
    described = {
        name: set(re.findall("`(\\w+)`", labels.partition(":")[0]))
        for names, labels in rows
        for name in re.findall(r"`(\w+)`", names)
    }
    told: dict[str, set[str]] = {}
    for name, labels in samples:
        metric = re.sub(r"(_seconds)_(?:bucket|sum|count)\Z", r"\1", name)
        told.setdefault(metric, set()).update(dict(labels).keys() - {"store", "le"})
    told["difffs_build_info"].add("version")  # the caller's
    assert described == told


def test_files_of_several_stores_tell_nothing_twice(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They lie in one directory, and node_exporter tells nothing at all when they do."""
    other = tmp_path / "other"
    shutil.copytree(store, other)
    texts = []
    for path in (store, other):
        assert main(["stats", str(path), "--prometheus"]) == 0
        texts.append(capsys.readouterr().out)
    first, second = map(parsed, texts)
    assert not first.keys() & second.keys()
    helps = [{line for line in text.splitlines() if line.startswith("#")} for text in texts]
    assert helps[0] == helps[1]


def test_several_stores(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / 'the "other"\\store'
    shutil.copytree(store, other)
    monkeypatch.chdir(tmp_path)
    # one of them twice, by another name of it
    assert main(["stats", str(store), str(other), "store", "--prometheus"]) == 0
    samples = parsed(capsys.readouterr().out)
    for path in (store, other):
        assert value(samples, "objects", store=str(path)) > 0
    assert sum(name == "difffs_objects" for name, _ in samples) == 2


def test_the_file_appears_whole(store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "textfile"
    folder.mkdir()
    target = folder / "difffs.prom"
    old = os.umask(0o077)
    try:
        for _ in range(2):  # also over one that is there
            assert main(["stats", str(store), "--prometheus", str(target)]) == 0
            assert [*folder.iterdir()] == [target]
            assert stat.S_IMODE(target.stat().st_mode) == 0o644
            assert parsed(target.read_text())
            target.chmod(0o600)
    finally:
        os.umask(old)


def test_what_cannot_be_written(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for target in (tmp_path, tmp_path / "missing" / "difffs.prom", pipe, "/proc/difffs.prom"):
        assert main(["stats", str(store), "--prometheus", str(target)]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_no_room_for_the_file(store: Path, tmp_path: Path) -> None:
    """One line, and what was there stays."""
    folder = tmp_path / "textfile"
    folder.mkdir()
    target = folder / "difffs.prom"
    target.write_text("as it was\n")
    words = [sys.executable, "-m", "difffs", "stats", str(store), "--prometheus", str(target)]
    done = subprocess.run(
        ["bash", "-c", 'ulimit -f 1; exec "$@"', "bash", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 8
    assert re.fullmatch(r"difffs: .*difffs\.prom cannot be written: .*\n", done.stderr)
    assert [*folder.iterdir()] == [target]
    assert target.read_text() == "as it was\n"


def test_a_store_that_cannot_be_read_leaves_the_file(store: Path, tmp_path: Path) -> None:
    target = tmp_path / "difffs.prom"
    target.write_text("as it was\n")
    words = ["stats", str(store), str(tmp_path / "gone"), "--prometheus", str(target)]
    assert main(words) == 3
    assert target.read_text() == "as it was\n"


def test_forms_that_exclude_each_other(store: Path) -> None:
    where = str(store)
    assert main(["stats", where, "--prometheus", "--bytes"]) == 2
    assert main(["stats", where, "--watch", "1", "--prometheus"]) == 2
    assert main(["stats", where, where, "--json"]) == 2
    with pytest.raises(SystemExit):
        main(["stats", where, "--prometheus", "-", "--json"])


@given(st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=20))
def test_any_name_comes_back(name: str) -> None:
    """Names as the system gives them, bytes that are no UTF-8 included."""
    if any("\ud800" <= letter <= "\udfff" for letter in name):
        return  # no bytes of a path become that
    path = "/" + name.replace("/", "")
    raw = path.encode("utf-8") + b"\xff"
    empty = {
        "store": os.fsdecode(raw),
        "recipe": "default",
        "since": 0.5,
        "pages": dict.fromkeys(ROUTES, 0),
        "lost": 0,
        "objects": 0,
        "bytes": dict.fromkeys(("logical", "payload", "slack", "metadata", "stored"), 0),
        "factor": 0.0,
        "memory": {"page_cache": 0},
        "routes": {
            route: dict.fromkeys(("count", "bytes_in", "bytes_out", "encode_us"), 0)
            for route in ROUTES
        },
    }
    samples = parsed(exposition([empty], {}))
    expected = os.path.realpath(raw).decode("utf-8", "replace")
    assert value(samples, "objects", store=expected) == 0


def test_promtool_finds_nothing(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool (Debian's package prometheus)")
    assert main(["stats", str(store), "--prometheus"]) == 0
    text = capsys.readouterr().out
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
