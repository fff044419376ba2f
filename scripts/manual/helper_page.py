"""The manual page of the mount helper (section 8), from the table of mount options."""

from __future__ import annotations

from collections.abc import Iterator

from difffs.cli.main import MOUNT_HELPER_NAMES
from difffs.mount.flags import FLAGS
from difffs.mount.options import OPTIONS
from manual.examples import MOUNT_HELPER
from manual.roff import bold, examples, page, paragraphs, part, plain, tagged, text, variable


def helper_page() -> str:
    """Return mount.difffs(8)."""
    return page(
        "mount.difffs",
        8,
        "mounts a difffs store for mount(8)",
        [
            *part("EXAMPLES", examples(MOUNT_HELPER)),
            *part("SYNOPSIS", _synopsis()),
            *part(
                "DESCRIPTION",
                paragraphs(
                    "mount(8) calls this for the type fuse.difffs. It is difffs itself by another "
                    "name, and does what difffs mount does: it makes the store when there is none, "
                    "and returns when the mount answers. In /etc/fstab the first field is the "
                    "store's directory.",
                    "mount(8) looks in /sbin; without the link of the last example, Debian's "
                    "mount.fuse calls difffs, if it lies where the system's programs do.",
                    "umount(8) writes everything and loses nothing, but returns while the daemon "
                    "is still at work; difffs umount waits for it. At shutdown systemd does as "
                    "umount(8): for a store on a file system of its own, which is to be unmounted "
                    "next, take difffs.conf(5) and its unit.",
                ),
            ),
            *part("OPTIONS", _options()),
            *part("EXIT STATUS", [r"0 when it is mounted; the others are in \fBdifffs\fR(1)."]),
            *part(
                "SEE ALSO",
                [
                    r"\fBdifffs\-mount\fR(1), \fBdifffs\-umount\fR(1), \fBdifffs.conf\fR(5), "
                    r"\fBfstab\fR(5), \fBmount\fR(8)"
                ],
            ),
        ],
        *(name for name in MOUNT_HELPER_NAMES if name != "mount.difffs"),
    )


def _synopsis() -> Iterator[str]:
    operands = " ".join(map(variable, ("STORE", "MOUNTPOINT")))
    option = rf"[{bold('-o')} {variable('KEY=VALUE,...')}]"
    yield rf"{bold('mount -t fuse.difffs')} {option} {operands}"
    yield ".br"
    yield rf"{bold('mount.fuse.difffs')} {operands} [{bold('-sfnv')}] {option}"


def _options() -> Iterator[str]:
    for option in OPTIONS.values():
        term = bold(option.name)
        if option.value:
            term += f"={variable(plain(option.value))}"
        default = f" (default: {option.default})" if option.default else ""
        yield from tagged(term, f"{option.meaning}{default}")
    yield from tagged(
        ", ".join(map(bold, FLAGS)),
        "and their opposites, as mount(8) has them, reach the kernel. A mount is nosuid and nodev "
        "in any case.",
    )
    yield from tagged(
        bold("remount"),
        "gives a mount that there is other flags, as root; the options above, but ro, stay for its "
        "life",
    )
    yield ".PP"
    yield text(
        "What else is for every file system (_netdev, nofail, user, x-...) is accepted. Any other "
        "option is an error."
    )
