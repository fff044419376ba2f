"""Tables of mounts: names that hold anything but a slash and a zero, and other namespaces."""

import os

import pytest

from difffs.mount import table
from tests.integration.harness import unshared_process

# What str.splitlines() takes for the end of a line, and a byte that is no UTF-8.
ODD = "a\fb\vc\rd\x1ce\x85f\u2028g\udcff"


def test_escaped_names() -> None:
    assert table.unescape(rb"/with\040space\011tab\134backslash") == "/with space\ttab\\backslash"


def test_only_a_newline_ends_a_line() -> None:
    line = b"36 35 0:52 / /mnt/%s rw,nosuid shared:1 - fuse.difffs /srv/%s rw,user_id=0\n" % (
        os.fsencode(ODD),
        os.fsencode(ODD),
    )
    first, second = table.parse(line * 2)
    assert first == second
    assert first.mountpoint == f"/mnt/{ODD}"
    assert first.source == f"/srv/{ODD}"
    assert first.kind == "fuse.difffs"
    assert first.device == os.makedev(0, 52)
    assert first.flags == ("rw", "nosuid")
    assert first.options == ("rw", "user_id=0")
    assert list(table.parse(b"")) == []


def test_commas_in_options_are_escaped_ones() -> None:
    (mount,) = table.parse(rb"1 2 0:3 / /m rw - overlay o rw,upperdir=/a\054b")
    assert mount.options == ("rw", "upperdir=/a,b")


@pytest.mark.skipif(os.geteuid() != 0, reason="a mount namespace needs root")
def test_other_namespaces_are_looked_into() -> None:
    with unshared_process() as process:
        places = list(table.mounts_everywhere())
        assert places[0].process == os.getpid()
        namespaces = {table.mount_namespace(place.process) for place in places}
        assert table.mount_namespace(process) in namespaces
        assert table.command_of(process) == "sleep"
    assert table.command_of(1 << 30) == ""
