"""Passes that tests give to the study. Light to import: each runs in a new process."""

import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from difffs.errors import EnvironmentProblem
from difffs.study.cache import Result
from difffs.study.corpus import Image


def refused(_images: Sequence[Image], _folder: Path, _parameters: Mapping[str, Any]) -> Result:
    """What a host does that lacks something."""
    raise EnvironmentProblem("it is forbidden\nhere")


def unwritable(_images: Sequence[Image], folder: Path, _parameters: Mapping[str, Any]) -> Result:
    """What a system call does that fails."""
    (folder / "missing" / "file").write_text("")
    return {}


def broken(_images: Sequence[Image], _folder: Path, _parameters: Mapping[str, Any]) -> Result:
    """A bug, which nobody may take for a property of the host."""
    raise AssertionError("a page reads back differently")


def halves(images: Sequence[Image], _folder: Path, parameters: Mapping[str, Any]) -> Result:
    """A peer that makes one page of `of` pages; it refuses images named by `refuses`."""
    if any(image.sha256 in parameters.get("refuses", ()) for image in images):
        raise EnvironmentProblem("it holds all images in memory, and these are too many")
    logical = sum(image.pages for image in images) * 4096
    return {"stored": logical // parameters["of"], "seconds": 1.5, **parameters.get("figures", {})}


def endless(_images: Sequence[Image], folder: Path, parameters: Mapping[str, Any]) -> Result:
    """Say which process this is, and work until somebody ends it."""
    (folder / "store").write_text("a store")
    note = Path(parameters["note"])
    note.with_suffix(".new").write_text(str(os.getpid()))
    note.with_suffix(".new").rename(note)
    while True:
        time.sleep(0.01)


def spans(_images: Sequence[Image], folder: Path, parameters: Mapping[str, Any]) -> Result:
    """When the pass ran, and that its folder was empty."""
    began = time.monotonic()
    assert list(folder.iterdir()) == []
    (folder / "left").write_text("behind")
    time.sleep(parameters["seconds"])
    return {"number": parameters["number"], "span": [began, time.monotonic()]}


def killed(_images: Sequence[Image], _folder: Path, _parameters: Mapping[str, Any]) -> Result:
    """What the kernel does to a process when memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def killing(_images: Sequence[Image], _folder: Path, parameters: Mapping[str, Any]) -> Result:
    """End the worker that has this pass made, as often as the file `kills` says, then succeed."""
    kills = Path(parameters["kills"])
    left = int(kills.read_text())
    if left:
        kills.write_text(str(left - 1))
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)  # this process ends with its worker
    return {"left": left}
