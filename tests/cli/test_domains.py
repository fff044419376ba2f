"""--domains: of import, in the names that it takes, and what stats, mv and metrics tell."""

import json
from pathlib import Path

import pytest

from difffs.cli.main import main
from tests.pages import guest_memory


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "vm.mem"
    path.write_bytes(guest_memory(1, 300))
    return path


@pytest.fixture
def store(tmp_path: Path, image: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The same image in two directories, twice in one of them, and in the root."""
    path = tmp_path / "s"
    for name in ("a/vm", "a/again", "b/deep/vm", "vm"):
        assert main(["import", "--domains", str(path), str(image), name]) == 0
    capsys.readouterr()
    return path


def statistics(store: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, int]]:
    capsys.readouterr()
    assert main(["stats", "--json", str(store)]) == 0
    told = json.loads(capsys.readouterr().out)
    return {each["directory"]: each for each in told["domains"]}


def test_an_image_is_shared_within_its_directory(
    store: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = statistics(store, capsys)
    assert {name: each["pages"] for name, each in told.items()} == {"": 300, "a": 600, "b": 300}
    assert len({each["objects"] for each in told.values()}) == 1
    assert main(["check", str(store)]) == 0
    assert main(["export", str(store), "b/deep/vm", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out").read_bytes() == image.read_bytes()


def test_the_table_and_the_metrics_have_a_line_a_domain(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stats", str(store)]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("directory"))
    assert [line.split()[:2] for line in lines[start + 1 : start + 4]] == [
        ["/", "300"],
        ["a/", "600"],
        ["b/", "300"],
    ]
    assert main(["stats", str(store), "--prometheus"]) == 0
    samples = capsys.readouterr().out.splitlines()
    pages = [line for line in samples if line.startswith("difffs_domain_pages{")]
    assert [line.rpartition(" ")[2] for line in pages] == ["300", "600", "300"]
    assert 'directory="a"' in pages[1]


def test_an_image_that_fails_leaves_no_directory(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "not-elf").write_bytes(b"nothing")
    assert main(["import", str(store), str(tmp_path / "not-elf"), "c/v", "--format", "elf"]) == 2
    assert set(statistics(store, capsys)) == {"", "a", "b"}


def test_what_is_moved_between_domains_is_refused_with_the_remedy(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for old, new in (("vm", "a/new"), ("a/vm", "b/"), ("a/again", "/"), ("b/deep", "deep")):
        capsys.readouterr()
        assert main(["mv", str(store), old, new]) == 2
        assert "are of different domains, which share nothing: export" in capsys.readouterr().err
    assert main(["mv", str(store), "a/vm", "a/vm2"]) == 0
    assert main(["mv", str(store), "b/deep/vm", "b/"]) == 0
    assert main(["mv", str(store), "b", "c"]) == 0
    assert set(statistics(store, capsys)) == {"", "a", "c"}
    assert main(["check", str(store)]) == 0


def test_a_store_without_domains_gets_none_later(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "without"
    assert main(["import", str(path), str(image), "a/vm"]) == 0
    capsys.readouterr()
    assert main(["import", str(path), str(image), "b/vm", "--domains"]) == 9
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"difffs: {path} was made without domains, and stays so")
    assert main(["stats", "--json", str(path)]) == 0
    assert "domains" not in json.loads(capsys.readouterr().out)
