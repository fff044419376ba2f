"""The mount options: what is understood, passed on, ignored and refused."""

import os
from pathlib import Path

import pytest

from difffs.errors import UsageError
from difffs.mount import options as options_module
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
    flags = (
        "rw,dev,suid,exec,noatime,relatime,_netdev,x-systemd.automount,comment=hello,defaults,,"
        "nouser,nogroup,noowner,lazytime,iversion,mand,silent,loud,async,symfollow,norelatime,"
        "X-mount.mkdir=0700,uhelper=udisks2"
    )
    assert parse_options([flags], MountOptions()) == MountOptions()


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("nosuid,nodev", ("nodev", "nosuid")),
        ("nosymfollow,noexec", ("noexec", "nosymfollow")),
        ("nodev,dev,noexec,exec,nosuid,suid,nosymfollow,symfollow", ()),
        ("user", ("nodev", "noexec", "nosuid")),
        ("user=alice,exec", ("nodev", "nosuid")),
        ("users", ("nodev", "noexec", "nosuid")),
        ("owner", ("nodev", "nosuid")),
        ("group,suid", ("nodev",)),
        ("noatime,strictatime,nodiratime", ("nodiratime", "strictatime")),
        ("strictatime,noatime", ("noatime",)),
        ("sync,dirsync", ("dirsync", "sync")),
    ],
)
def test_what_restricts_reaches_the_kernel_and_the_last_one_counts(
    text: str, flags: tuple[str, ...]
) -> None:
    assert parse_options([text], MountOptions()).kernel_flags == flags


def test_labels_are_as_without_selinux_or_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = 'context="system_u:object_r:tmp_t:s0:c1,c2",ro'
    monkeypatch.setattr(options_module, "_SELINUX", str(tmp_path / "none"))
    assert parse_options([text], MountOptions()) == MountOptions(read_only=True)
    monkeypatch.setattr(options_module, "_SELINUX", str(tmp_path))
    with pytest.raises(UsageError, match=r"context.*c2.*leave it out"):
        parse_options([text], MountOptions())


def test_the_buffer_fits_the_machine() -> None:
    half = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    assert parse_options([f"buffer={half}"], MountOptions()).buffer_bytes == half
    for size in (f"{half + 1}", "1T"):
        with pytest.raises(UsageError, match=r"this machine has [0-9.]+ "):
            parse_options([f"buffer={size}"], MountOptions())


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
