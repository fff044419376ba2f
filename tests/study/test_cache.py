"""Results on disk: kept whole, named by content, merged by copying."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from difffs.errors import EnvironmentProblem, OutputProblem
from difffs.study.cache import Cache, Result
from difffs.study.corpus import Image
from tests.stores import scratch

ONE = Image(Path("/images/one.mem"), "one", 100, "1" * 64)
TWO = Image(Path("/images/two.mem"), "two", 100, "2" * 64)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 60), 1 << 60) | st.text() | st.floats(0, 1e300),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_a_result_comes_back_as_it_was(result: Result) -> None:
    with scratch() as folder:
        cache = Cache(folder / "made" / "when missing")
        assert cache.get("one") is None
        cache.put("one", result)
        assert cache.get("one") == result
        cache.put("one", {"replaced": True})
        assert Cache(cache.folder).get("one") == {"replaced": True}
        assert [path.name for path in cache.folder.iterdir()] == ["one.json"]


def test_images_count_by_content_and_order_alone() -> None:
    key = Cache.key("pass", 1, [ONE, TWO], {"a": 1, "b": [2]})
    moved = replace(ONE, path=Path("/elsewhere/1.mem"), name="renamed")
    assert Cache.key("pass", 1, [moved, TWO], {"b": [2], "a": 1}) == key
    others = [
        Cache.key("pass", 2, [ONE, TWO], {"a": 1, "b": [2]}),
        Cache.key("other", 1, [ONE, TWO], {"a": 1, "b": [2]}),
        Cache.key("pass", 1, [TWO, ONE], {"a": 1, "b": [2]}),
        Cache.key("pass", 1, [ONE], {"a": 1, "b": [2]}),
        Cache.key("pass", 1, [ONE, TWO], {"a": 1, "b": [3]}),
        Cache.key("pass", 1, [ONE, TWO], {}),
    ]
    assert len({key, *others}) == 7


@pytest.mark.parametrize("content", [b"", b'{"pages": 1', b"[1]", b"\xff\xfe", b"null"])
def test_a_damaged_result_counts_as_not_there(tmp_path: Path, content: bytes) -> None:
    cache = Cache(tmp_path)
    (tmp_path / "one.json").write_bytes(content)
    assert cache.get("one") is None
    cache.put("one", {"pages": 1})
    assert cache.get("one") == {"pages": 1}


def test_folders_merge_by_copying(tmp_path: Path) -> None:
    first, second = Cache(tmp_path / "first"), Cache(tmp_path / "second")
    first.put("a", {"from": 1})
    second.put("b", {"from": 2})
    for path in second.folder.iterdir():
        shutil.copy(path, first.folder)
    assert (first.get("a"), first.get("b")) == ({"from": 1}, {"from": 2})


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put("one", {"good": 1})
    with pytest.raises(TypeError):
        cache.put("one", {"bad": object()})
    assert json.loads((tmp_path / "one.json").read_text()) == {"good": 1}
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentProblem, match=r"cannot be made.*--cache"):
        Cache(tmp_path / "file" / "cache")


def test_a_result_that_cannot_be_kept_is_said(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    cache.folder.rmdir()
    with pytest.raises(OutputProblem, match=r"cache cannot be written: No such file"):
        cache.put("one", {})
