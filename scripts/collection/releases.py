"""Which Debian releases guests are built from, and what is installed in each."""

from __future__ import annotations

from dataclasses import dataclass

MIRROR = "http://deb.debian.org/debian"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

# A whole system: init, kernel, and what a Debian server has running.
_SYSTEM = (
    *(
        "linux-image-cloud-amd64",
        "initramfs-tools",
        "systemd-sysv",
        "udev",
        "kmod",
        "dbus",
        "e2fsprogs",
    ),
    *("cron", "logrotate", "procps", "iproute2"),
)
_SERVER = (*_SYSTEM, "rsyslog", "openssh-server", "less", "man-db", "xz-utils", "bzip2")


@dataclass(frozen=True, slots=True)
class System:
    """A disk that guests are booted from; one serves all workloads of its release."""

    name: str
    release: str
    """The number of the Debian release."""
    codename: str
    packages: tuple[str, ...]
    sources: tuple[str, ...] = ()
    """Source packages whose upstream code lies in ``/srv/sources``."""


SYSTEMS = {
    system.name: system
    for system in (
        System(
            "debian-11",
            "11",
            "bullseye",
            (*_SERVER, "rsync", "dbench", "perl", "python3", "ruby", "python3-yaml", "wamerican"),
        ),
        System(
            "debian-12",
            "12",
            "bookworm",
            (
                *(*_SERVER, "nginx-light", "postgresql", "apache2-utils"),
                *("python3-flask", "python3-psycopg2", "gunicorn"),
                *("gcc", "libc6-dev", "make", "zlib1g-dev"),
                *("default-jdk-headless", "wamerican-large"),
            ),
            sources=("git",),
        ),
        System(
            "debian-13",
            "13",
            "trixie",
            (
                *(*_SERVER, "nginx-light", "mariadb-server", "apache2-utils"),
                *("sqlite3", "gawk", "perl", "wamerican-huge"),
            ),
        ),
        System("debian-13-small", "13", "trixie", (*_SYSTEM, "xz-utils", "wamerican")),
    )
}
