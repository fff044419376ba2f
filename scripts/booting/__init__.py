"""A Debian with difffs and its systemd units, booted under QEMU."""
