"""The mount options: what is understood, passed on, ignored and refused."""

import pytest

from difffs.errors import UsageError
from difffs.mount.options import MountOptions, parse_options


def test_known_options() -> None:
    options = parse_options(
        ["ro,buffer=64M", "workers=3,recipe=fast,read_ahead=1M,allow_other,lock_memory"],
        MountOptions(),
    )
    assert options == MountOptions(
        read_only=True,
        recipe="fast",
        buffer_bytes=64 << 20,
        workers=3,
        read_ahead_bytes=1 << 20,
        allow_other=True,
        lock_memory=True,
    )
    assert not parse_options(["allow_other,no_allow_other"], MountOptions()).allow_other
    assert not parse_options(["ro,rw"], MountOptions()).read_only


def test_generic_mount_flags_have_no_effect() -> None:
    flags = "rw,dev,suid,exec,noatime,relatime,_netdev,x-systemd.automount,comment=hello,defaults,"
    assert parse_options([flags], MountOptions()) == MountOptions()


def test_restrictions_reach_the_kernel() -> None:
    assert parse_options(["nosuid,nodev"], MountOptions()).kernel_flags == ("nosuid", "nodev")


def test_root_lets_others_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert parse_options([]).allow_other
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert not parse_options([]).allow_other


@pytest.mark.parametrize(
    "text",
    [
        "bufer=1M", "buffer", "buffer=", "buffer=many", "buffer=1", "workers=0", "workers=x",
        "ro=1", "nonsense", "recipe", "read_ahead=1G", "noatime=1",
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(text: str) -> None:
    with pytest.raises(UsageError, match=text.partition("=")[0]):
        parse_options([f"rw,{text}"], MountOptions())
