"""An image, its memory and a file are opened, renamed, replaced, removed and written, with
crashes between: every reader gets its bytes to the last, and nothing is left behind."""

import os
import shutil
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from difffs.engine import Engine
from difffs.mount.caller import Caller
from difffs.mount.kernel_tuning import KernelTuning
from difffs.mount.operations import VolumeOperations
from difffs.mount.refining import Refining
from difffs.page import PAGE_SIZE
from difffs.store import Store
from difffs.volume import Volumes
from tests.mount.invented_image import store_in
from tests.stores import memory_folder

_NAMES = ("/image", "/image.ram", "/file")
_names = st.sampled_from(_NAMES)


@dataclass(eq=False)
class File:
    """What a file is to be."""

    content: bytearray
    memory: "File | None" = None
    """Of an image."""
    handles: list[int] = field(default_factory=list)


class Machine(RuleBasedStateMachine):
    """The operations beside a model of them."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        folder = self.stack.enter_context(tempfile.TemporaryDirectory(dir=memory_folder()))
        self.path = Path(folder) / "store"
        shutil.copytree(_prepared.path, self.path)
        self.names: dict[str, File] = {}
        memory = File(bytearray(_prepared.content.memory))
        image = File(bytearray(_prepared.content.file), memory)
        self.names |= {"/image": image, "/image.ram": memory, "/file": File(bytearray())}
        self.files = list(self.names.values())
        self.hidden = 0
        self.open_store()
        self.do.release(None, self.do.create("/file", 0o644, os.O_RDWR))

    def open_store(self) -> None:
        self.store = Store.open(self.path)
        self.engine = Engine(self.store, 1)
        self.volumes = Volumes(self.engine, buffer_bytes=1 << 20)
        caller = Caller(lambda: (0, 0, os.getpid()))
        refining = Refining(self.volumes, None, 1.0)
        self.do = VolumeOperations(
            self.volumes, caller, KernelTuning(0), dict, lambda: None, refining
        )

    def close_store(self) -> None:
        self.volumes.close()
        assert self.store.check() == []
        self.engine.close()
        self.store.close()

    def is_named(self, file: File) -> bool:
        return file in self.names.values()

    def is_fixed(self, file: File) -> bool:
        """Whether nobody may change it: an image that is there needs it."""
        return file.memory is not None or any(
            image.memory is file and (self.is_named(image) or image.handles) for image in self.files
        )

    def hide(self, name: str) -> None:
        """As libfuse does before it unlinks or replaces what is open."""
        self.hidden += 1
        self.do.rename(name, f"/.fuse_hidden{self.hidden:016x}")

    @rule(name=_names)
    def open(self, name: str) -> None:
        if file := self.names.get(name):
            file.handles.append(self.do.open(name, os.O_RDONLY))

    @rule(number=st.integers(0, 100))
    def close(self, number: int) -> None:
        is_open = [file for file in self.files if file.handles]
        if is_open:
            self.do.release(None, is_open[number % len(is_open)].handles.pop())

    @rule(name=_names)
    def unlink(self, name: str) -> None:
        file = self.names.pop(name, None)
        if file is not None and file.handles:
            self.hide(name)
        elif file is not None:
            self.do.unlink(name)

    @rule(old=_names, new=_names, exchange=st.booleans())
    def rename(self, old: str, new: str, exchange: bool) -> None:
        if old == new or old not in self.names:
            return
        if exchange and new in self.names:
            self.do.rename(old, new, 2)
            self.names[old], self.names[new] = self.names[new], self.names[old]
            return
        if new in self.names and self.names[new].handles:
            self.hide(new)
        self.do.rename(old, new)
        self.names[new] = self.names.pop(old)

    @rule(name=_names, seed=st.integers(0, 1000))
    def write(self, name: str, seed: int) -> None:
        file = self.names.get(name)
        if file is None:
            return
        if self.is_fixed(file):
            with pytest.raises(PermissionError):
                self.do.open(name, os.O_RDWR)
            return
        handle = self.do.open(name, os.O_RDWR)
        offset, data = seed * 500, Random(seed).randbytes(5000)
        self.do.write(None, data, offset, handle)
        self.do.release(None, handle)
        file.content.extend(bytes(max(0, offset + len(data) - len(file.content))))
        file.content[offset : offset + len(data)] = data

    @rule(whole=st.booleans())
    def read(self, whole: bool) -> None:
        """Every open file, after what was removed is freed."""
        self.volumes.flush()
        for file in self.files:
            for handle in file.handles[-1:]:
                size = len(file.content)
                offset = 0 if whole else size // 3
                out = bytearray(size if whole else 3 * PAGE_SIZE)
                count = self.do.read(None, memoryview(out), offset, handle)
                assert out[:count] == file.content[offset : offset + len(out)]

    @rule(crash=st.booleans())
    def restart(self, crash: bool) -> None:
        """What is committed by now stays; handles are gone."""
        if crash:
            self.volumes.flush()
            self.volumes.close()
            assert self.store.check() == []
            self.engine.close()
            self.store.abandon()
        else:
            self.do.close()
            self.close_store()
        self.forget_handles()
        self.open_store()

    def forget_handles(self) -> None:
        for file in self.files:
            file.handles.clear()

    def expected_inodes(self) -> int:
        """The root, and what has a name or is open; an image keeps both its parts."""
        there = [file for file in self.files if self.is_named(file) or file.handles]
        images = [file for file in there if file.memory is not None]
        kept = {id(file) for file in there} | {id(image.memory) for image in images}
        return 1 + len(kept) + len(images)

    @invariant()
    def sizes_are_right(self) -> None:
        for name, file in self.names.items():
            assert self.do.getattr(name)["st_size"] == len(file.content)

    def teardown(self) -> None:
        """Nothing that nobody can reach is left, now and after the next opening."""
        try:
            self.read(whole=True)
            end = time.monotonic() + 10
            while len(self.volumes.namespace) != self.expected_inodes():
                assert time.monotonic() < end, "something is left"
                self.volumes.flush()
            self.do.close()
            self.forget_handles()
            self.close_store()
            self.open_store()
            assert len(self.volumes.namespace) == self.expected_inodes()
            self.close_store()
        finally:
            self.stack.close()


class Prepared:
    """A store with an image, copied for each example."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content = store_in(path)


_prepared: Prepared


def test_names_handles_and_crashes(tmp_path: Path) -> None:
    global _prepared
    _prepared = Prepared(tmp_path / "store")
    run_state_machine_as_test(
        Machine, settings=settings(max_examples=60, stateful_step_count=20, deadline=None)
    )
