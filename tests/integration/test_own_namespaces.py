"""Scripts that work for minutes in a mount namespace of their own hold nobody's mount meanwhile."""

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from formats.place import Place
from outside.__main__ import _alone
from wheels.debian import _on_a_mount

from tests.integration.harness import Mounted

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="mount namespaces need root"),
]

Way = Callable[[Path, list[str]], Sequence[str]]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """This system's files as a root of their own."""
    folder = tmp_path / "root"
    folder.mkdir()
    subprocess.run(["mount", "--bind", "/", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.parametrize(
    "way",
    [
        pytest.param(lambda _, words: _alone(words), id="outside-suites"),
        pytest.param(_on_a_mount, id="test-setup"),
        pytest.param(lambda root, words: Place(root).command(root / "tmp", words), id="root"),
    ],
)
def test_what_is_mounted_can_be_unmounted(mount: Mounted, root: Path, way: Way) -> None:
    command = way(root, ["sh", "-c", "echo there; exec sleep 1000"])
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"there\n"
            mount.unmount()
        finally:
            process.kill()
