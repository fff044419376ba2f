"""The checkout as git knows it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from wheels.running import CHECKOUT, WheelError


def copy_tracked_files(folder: Path) -> None:
    """Copy what git knows of the checkout, as it is now: nothing that lies about gets in."""
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={CHECKOUT}", "-C", CHECKOUT, "ls-files", "-z"],
        check=False,
        capture_output=True,
    )
    if listed.returncode != 0:
        raise WheelError(f"{CHECKOUT} is no checkout: {listed.stderr.decode().strip()}")
    for name in filter(None, os.fsdecode(listed.stdout).split("\0")):
        if (CHECKOUT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, folder / name)
