"""ls of a live mount, and what rm and mv say of one."""

import json
import os
from collections.abc import Iterator

import pytest

from tests.integration.harness import Mounted, complaint, difffs, mounted_store, obstacle

pytestmark = pytest.mark.integration


@pytest.fixture
def mounted() -> Iterator[Mounted]:
    """A store in a mount, with two volumes."""
    reason = obstacle()
    if reason is not None:
        pytest.skip(reason)
    with mounted_store() as one:
        (one.path / "folder").mkdir()
        (one.path / "folder" / "one").write_bytes(os.urandom(100_000))
        (one.path / "two words").write_bytes(b"text " * 50_000)
        os.truncate(one.path / "two words", 1 << 30)
        (one.path / "link").symlink_to("two words")
        one.commit()
        yield one


def test_a_mount_lists_what_its_store_lists(mounted: Mounted) -> None:
    by_mount = json.loads(difffs("ls", mounted.path, "--json").stdout)
    by_store = json.loads(difffs("ls", mounted.store, "--json").stdout)
    inside = json.loads(difffs("ls", mounted.path / "folder", "--json").stdout)
    for report in (by_mount, by_store, inside):
        assert report["store"] == str(mounted.store)
        assert report["mountpoint"] == str(mounted.path)
    mounted.unmount()
    alone = json.loads(difffs("ls", mounted.store, "--json").stdout)
    assert by_mount["volumes"] == by_store["volumes"] == inside["volumes"] == alone["volumes"]
    assert by_mount["total"] == alone["total"]
    assert alone["store"] == str(mounted.store)
    assert "mountpoint" not in alone
    names = [volume["name"] for volume in alone["volumes"]]
    assert names == ["folder/one", "two words"]
    assert alone["volumes"][0]["pages"] == 25
    assert alone["volumes"][1]["size"] == 1 << 30
    assert alone["volumes"][1]["pages"] == 62


def test_changes_are_left_to_the_mount(mounted: Mounted) -> None:
    line = complaint("rm", mounted.store, "folder/one", "two words", status=5)
    assert f"rm {mounted.path}/folder/one '{mounted.path}/two words'" in line
    line = complaint("mv", mounted.store, "folder/one", "one", status=5)
    assert f"mv {mounted.path}/folder/one {mounted.path}/one" in line
    line = complaint("import", mounted.store, "/dev/null", "a{0}b", status=5)
    assert f"cp /dev/null '{mounted.path}/a{{0}}b'" in line
    line = complaint("export", mounted.store, "a{0}b", "x", status=5)
    assert f"copy '{mounted.path}/a{{0}}b'" in line
