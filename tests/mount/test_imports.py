"""What the daemon brings along: it stays in memory for as long as the mount."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["xxhash", "zstandard", "cramjam", "difffs.images.compression"])
def test_what_only_imports_need_is_not_in_the_daemon(module: str) -> None:
    program = "import sys; import difffs.mount.daemon, difffs.mount.operations; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    loaded = done.stdout.split()
    assert "difffs.stored_image.reading" in loaded
    assert module not in loaded
