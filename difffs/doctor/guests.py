"""Guests: QEMU, what it runs them by, and what keeps it from their memory."""

import fcntl
import os
import platform
import re
from pathlib import Path

from difffs.doctor.check import Answer, limited, missing, off, ok, probe, unknown
from difffs.doctor.host import Host
from difffs.mount.live import FILE_SYSTEM_TYPE

_LOCAL_RULES = "/etc/apparmor.d/local/abstractions/libvirt-qemu"
_KVM_CREATE_VM = 0xAE01
_PROBE_A_GUEST = "vm-configs/run-guest --probe boots a small guest under it, and tells"


def _qemu(host: Host) -> str | None:
    return host.program(f"qemu-system-{platform.machine()}")


def _no_qemu() -> Answer:
    return missing(f"no qemu-system-{platform.machine()}", "apt install qemu-system-x86")


@probe("guests.qemu", "guests")
def qemu(host: Host) -> Answer:
    """Its version."""
    path = _qemu(host)
    if path is None:
        return _no_qemu()
    first = host.said_by(path, "--version").split("\n")[0]
    return ok(first.removeprefix("QEMU emulator version ").join(("QEMU ", "")))


@probe("guests.accelerators", "guests")
def accelerators(host: Host) -> Answer:
    """What this QEMU was built with."""
    path = _qemu(host)
    if path is None:
        return _no_qemu()
    known = host.said_by(path, "-accel", "help").split("\n")[1:]
    names = [line.strip() for line in known if line.strip()]
    if not names:
        raise ValueError("qemu -accel help lists none")
    return ok(", ".join(names))


@probe("guests.kvm", "guests")
def kvm(host: Host) -> Answer:
    """Whether guests run on the processor itself. No guest is booted for it: only one would tell,
    because nested virtualisation may hang at a guest's first instruction."""
    translated = "guests run translated (TCG), many times slower: give QEMU -accel tcg,tb-size=32"
    if not host.exists("/dev/kvm"):
        return off(
            f"there is no /dev/kvm; {translated}",
            "modprobe kvm_intel or kvm_amd, with virtualisation on in the firmware; in a container:"
            " --device /dev/kvm",
        )
    if not host.exists("/sys/class/misc/kvm"):  # opening would load the module
        return off(
            f"/dev/kvm is there, and the kernel's KVM is not loaded; {translated}",
            "modprobe kvm_intel or kvm_amd",
        )
    try:
        device = os.open(host.path("/dev/kvm"), os.O_RDWR | os.O_CLOEXEC)
    except PermissionError:
        return limited(
            f"/dev/kvm is not this user's to open; {translated}",
            "usermod -aG kvm USER, and log in again",
        )
    except OSError as error:
        return off(f"/dev/kvm does not open ({error.strerror}); {translated}")
    try:
        # A machine without a processor, which goes when it is closed.
        os.close(fcntl.ioctl(device, _KVM_CREATE_VM, 0))
    except OSError as error:
        return off(f"/dev/kvm makes no machines ({error.strerror}); {translated}")
    finally:
        os.close(device)
    noted = _noted_accelerator(host)
    if noted == "kvm":
        return ok("/dev/kvm opens, and a guest has run under it since this host booted")
    if noted == "tcg":
        return off(
            f"/dev/kvm opens, but a guest that was tried does not run under it; {translated}"
        )
    return unknown(
        "/dev/kvm makes machines; whether a guest runs under it, only a guest tells", _PROBE_A_GUEST
    )


def _noted_accelerator(host: Host) -> str | None:
    """What run-guest has found out since the host booted."""
    cache = Path(host.environment.get("DIFFFS_CACHE") or host.checkout / ".cache")
    try:
        words = (cache / "guest" / "accel").read_text().split()
    except OSError:
        return None
    boot = host.text_or_none("/proc/sys/kernel/random/boot_id")
    return words[0] if len(words) == 2 and words[1] == boot else None


@probe("guests.read_only_memory", "guests")
def read_only_memory(host: Host) -> Answer:
    """Whether several guests can start from one image, each with what it changes of its own."""
    path = _qemu(host)
    if path is None:
        return _no_qemu()
    options = host.said_by(path, "-object", "memory-backend-file,help")
    if re.search(r"^\s*rom=", options, re.MULTILINE):
        return ok("memory-backend-file has rom=: guests can be cloned copy-on-write")
    return off(
        "memory-backend-file has no rom=: guests cannot be started copy-on-write from one image"
        " (readonly=on gives them ROM for RAM)",
        "QEMU 8.2 or later (Debian 13)",
    )


@probe("guests.libvirt")
def libvirt(host: Host) -> Answer:
    """Needed only for guests that are libvirt's."""
    path = host.program("virsh")
    if path is None:
        return off("no virsh", "apt install libvirt-clients libvirt-daemon-driver-qemu")
    return ok(f"libvirt {host.said_by(path, '--version').strip()}")


def _has_libvirt(host: Host) -> bool:
    return any(map(host.program, ("libvirtd", "virtqemud", "virsh")))


@probe("guests.libvirt_user", "guests")
def libvirt_user(host: Host) -> Answer:
    """As whom libvirt runs QEMU, and where it puts guests' memory."""
    if not _has_libvirt(host):
        return ok("no libvirt")
    text = host.text_or_none("/etc/libvirt/qemu.conf") or ""
    settings = dict(re.findall(r'^\s*(\w+)\s*=\s*"([^"\n]*)"', text, re.MULTILINE))
    user = settings.get("user", "libvirt-qemu")
    folder = settings.get("memory_backing_dir", "/var/lib/libvirt/qemu/ram")
    found = f"the system's libvirt runs QEMU as {user}, with memory of files below {folder}"
    mounts = [mount for mount in host.mounts if mount.mountpoint == folder]
    if not mounts or mounts[-1].kind != FILE_SYSTEM_TYPE:
        return off(
            f"{found}, which is no mount of difffs",
            'difffs mount STORE FOLDER -o allow_other; memory_backing_dir = "FOLDER" in'
            " /etc/libvirt/qemu.conf; systemctl restart libvirtd",
        )
    if user not in ("root", "+0") and "allow_other" not in mounts[-1].options:
        return limited(
            f"{found}: that mount does not let {user} in",
            f"difffs umount {folder}; difffs mount {mounts[-1].source} {folder} -o allow_other",
        )
    return ok(found)


@probe("guests.apparmor", "guests")
def apparmor(host: Host) -> Answer:
    """Whether libvirt's guests are confined to files that their domains name."""
    if host.text_or_none("/sys/module/apparmor/parameters/enabled") != "Y":
        return ok("AppArmor is not on")
    if not _has_libvirt(host) or not host.exists("/etc/apparmor.d/libvirt/TEMPLATE.qemu"):
        return ok("AppArmor is on, and no profiles of libvirt's are there")
    conf = host.text_or_none("/etc/libvirt/qemu.conf") or ""
    if re.search(r'^\s*security_driver\s*=\s*"none"', conf, re.MULTILINE):
        return ok("AppArmor is on, and libvirt's security_driver is none")
    rules = host.text_or_none(_LOCAL_RULES) or ""
    if any(line.strip().startswith("/") for line in rules.split("\n")):
        return ok(f"AppArmor confines libvirt's guests, and {_LOCAL_RULES} has rules for them")
    return limited(
        "AppArmor confines libvirt's guests to the files that libvirt knows of: RAM given by"
        " qemu:commandline is refused",
        f"echo '/MOUNTPOINT/** rwk,' >> {_LOCAL_RULES}; systemctl reload apparmor",
    )


@probe("guests.selinux", "guests")
def selinux(host: Host) -> Answer:
    """Whether libvirt's guests may use FUSE at all."""
    if host.text_or_none("/sys/fs/selinux/enforce") != "1":
        return ok("SELinux is not enforced")
    if not _has_libvirt(host):
        return ok("SELinux is enforced, and there is no libvirt")
    allowed = host.text_or_none("/sys/fs/selinux/booleans/virt_use_fusefs")
    if allowed is not None and allowed.split()[0] == "1":
        return ok("SELinux is enforced, and virt_use_fusefs is on")
    return limited(
        "SELinux is enforced: libvirt's guests may not use files on FUSE",
        "setsebool -P virt_use_fusefs on",
    )


PROBES = (
    qemu,
    accelerators,
    kvm,
    read_only_memory,
    libvirt,
    libvirt_user,
    apparmor,
    selinux,
)
