"""fio writes, reads back and compares checksums."""

import json
import subprocess

import pytest
from trial import fio

from tests.integration.harness import SECONDS, Mounted

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def able() -> None:
    """Skip where there is no fio."""
    reason = fio.obstacle()
    if reason is not None:
        pytest.skip(reason)


def test_cached(mount: Mounted) -> None:
    result = fio.run(mount.path, mebibytes=32)
    assert result.read >= 32 << 20
    mount.remount()


@pytest.mark.parametrize("block", ["512", "4k", "128k"])
def test_direct_with_several_jobs(mount: Mounted, block: str) -> None:
    """As a loop device asks; the file is verified again after a remount."""
    job = [
        "fio", "--name=job", f"--directory={mount.path}", "--numjobs=3", f"--bs={block}",
        "--direct=1", "--ioengine=libaio", "--iodepth=8", "--verify=crc32c", "--randseed=5",
        "--buffer_compress_percentage=50", "--refill_buffers=1", "--group_reporting=1",
        "--output-format=json", "--rw=randwrite", "--size=4M",
    ]  # fmt: skip
    for words in (["--do_verify=1", "--fsync_on_close=1"], ["--verify_only=1"]):
        done = subprocess.run(
            [*job, *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
            cwd=mount.folder,  # where fio leaves its notes for --verify_only
        )
        assert done.returncode == 0, done.stdout + done.stderr
        report = json.loads(done.stdout[done.stdout.index("{") :])
        assert all(entry["error"] == 0 for entry in report["jobs"])
        mount.remount()
