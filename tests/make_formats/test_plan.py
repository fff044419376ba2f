"""Which formats a version of QEMU is asked for, and what the files are called."""

from __future__ import annotations

from pathlib import Path

import pytest
from formats import options, plan
from formats.libvirt import domain_text
from formats.options import parse


def names(version: plan.Version) -> list[str]:
    return [form.name for form in plan.formats_of(version)]


def test_each_version_is_asked_for_what_it_knows() -> None:
    old, new = names((7, 2)), names((10, 0))
    assert set(new) - set(old) == {"mapped-ram", "mapped-ram-multifd", "kdump-zlib.raw"}
    assert set(old) < set(new)
    assert "kdump-zlib.raw" not in names((8, 1))
    assert "kdump-zlib.raw" in names((8, 2))
    assert "mapped-ram" not in names((8, 2))


def test_libvirt_is_asked_for_what_it_can_be_asked_for() -> None:
    assert plan.save_formats_of((9, 0)) == {"raw": ()}
    forms = plan.save_formats_of((11, 3))
    assert forms["zstd"] == ("--image-format", "zstd")
    assert next(iter(forms)) == "raw"  # the one that the others are made from


def test_a_guest_that_migrated_is_asked_for_nothing_else() -> None:
    ends = [form.ends for form in plan.FORMATS]
    assert ends == sorted(ends)
    assert next(form for form in plan.FORMATS if form.ends) is plan.MIGRATION


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)", (7, 2)),
        ("QEMU emulator version 10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)", (10, 0)),
        ("Running against daemon: 11.3.0", (11, 3)),
    ],
)
def test_versions_are_read(line: str, version: plan.Version) -> None:
    assert plan.version_of(line) == version


@pytest.mark.parametrize("line", ["", "QEMU", "version 7", "7.x"])
def test_no_version_is_an_error(line: str) -> None:
    with pytest.raises(ValueError, match="no version"):
        plan.version_of(line)


def test_names_tell_tool_pause_and_format() -> None:
    tool = plan.tool_name("qemu", (7, 2))
    assert plan.file_name(tool, 2, plan.ELF.name) == "qemu-7.2.pause-2.elf"


def test_programs_come_in_the_order_of_working() -> None:
    found = parse(["--programs", "libvirt,host", "--memory", "1G", "/tmp/images"])
    assert found.programs == ("host", "libvirt")
    assert found.mebibytes == 1024
    assert parse(["/tmp/images"]).programs == plan.PROGRAMS


@pytest.mark.parametrize(
    "words",
    [
        ["--memory", "95M"],
        ["--memory", "3G"],
        ["--memory", "256"],
        ["--memory", "256K"],
        ["--seed", "-1"],
        ["--seconds", "-1"],
        ["--seconds", "nan"],
        ["--programs", "xen"],
        ["--programs", ""],
    ],
)
def test_wrong_options_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse([*words, "/tmp/images"])
    assert ended.value.code == 2
    assert words[0] in capsys.readouterr().err


def test_the_guest_fits_below_the_hole_of_its_machine() -> None:
    assert options.LARGEST_MEBIBYTES <= 2048  # q35 puts what is above 2 GiB elsewhere


def test_a_domain_has_its_memory_in_a_file_and_no_disk() -> None:
    text = domain_text("name", Path("/mnt"), 256, 1, vga=False)
    assert "<source type='file'/>" in text
    assert "<disk" not in text
    assert "<video>" not in text
    assert "<video>" in domain_text("name", Path("/mnt"), 256, 1, vga=True)
