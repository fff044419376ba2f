"""QEMU of several versions, accelerators, libvirt and what confines its guests."""

import os
import platform
import shutil
from pathlib import Path

import pytest

from difffs.doctor import guests
from difffs.doctor.host import Host
from tests.doctor.made_host import found, made_host

QEMU = f"/usr/bin/qemu-system-{platform.machine()}"
SCRIPT = """case "$*" in
--version) echo 'QEMU emulator version 10.0.13 (Debian 1:10.0.13)'; echo Copyright ;;
'-accel help') printf 'Accelerators supported in QEMU binary:\\ntcg\\nkvm\\n' ;;
'-object memory-backend-file,help') printf 'options:\\n  readonly=<bool>\\n  rom=<OnOffAuto>\\n' ;;
esac"""
BOOT = {"/proc/sys/kernel/random/boot_id": "1234\n"}
FOLDER = "/srv/guests"
MOUNT = f"70 20 0:50 / {FOLDER} rw - fuse.difffs /srv/pages rw,user_id=0"


def test_qemu(tmp_path: Path) -> None:
    host = made_host(tmp_path, programs={QEMU: SCRIPT})
    assert found(guests.qemu, host).found == "QEMU 10.0.13 (Debian 1:10.0.13)"
    assert found(guests.accelerators, host).found == "tcg, kvm"
    assert found(guests.read_only_memory, host).state == "ok"


def test_no_qemu(tmp_path: Path) -> None:
    for probe in (guests.qemu, guests.accelerators, guests.read_only_memory):
        check = found(probe, made_host(tmp_path))
        assert check.state == "missing"
        assert check.matters_for == ("guests",)


def test_a_qemu_that_does_not_work(tmp_path: Path) -> None:
    host = made_host(tmp_path, programs={QEMU: "echo cannot load libfoo.so.1 >&2; exit 127"})
    check = found(guests.qemu, host)
    assert check.state == "unknown"
    assert "libfoo" in check.found


@pytest.mark.skipif(
    shutil.which(f"qemu-system-{platform.machine()}") is None, reason="no QEMU on this host"
)
def test_the_qemu_of_this_host() -> None:
    assert found(guests.qemu, Host()).found.startswith("QEMU ")
    assert "tcg" in found(guests.accelerators, Host()).found
    version = found(guests.qemu, Host()).found.split()[1]
    recent = tuple(int(part) for part in version.split(".")[:2]) >= (8, 2)
    assert found(guests.read_only_memory, Host()).state == ("ok" if recent else "off")


def test_kvm(tmp_path: Path) -> None:
    assert found(guests.kvm, made_host(tmp_path)).state == "off"
    host = made_host(tmp_path, {**BOOT, "/dev/kvm": ""})
    assert "not loaded" in found(guests.kvm, host).found
    host = made_host(tmp_path, {"/sys/class/misc/kvm/dev": "10:232\n"})
    check = found(guests.kvm, host)
    assert check.state == "off", "a file is no device"
    assert "makes no machines" in check.found


@pytest.mark.skipif(not os.access("/dev/kvm", os.W_OK), reason="no /dev/kvm for this user")
def test_kvm_of_this_host(tmp_path: Path) -> None:
    host = made_host(tmp_path, {**BOOT, "/sys/class/misc/kvm/dev": "10:232\n"})
    host.path("/dev").mkdir()
    host.path("/dev/kvm").symlink_to("/dev/kvm")
    check = found(guests.kvm, host)
    if "makes no machines" in check.found:
        pytest.skip(check.found)
    assert check.state == "unknown", "only a guest tells"
    assert "run-guest --probe" in check.remedy
    noted = tmp_path / "checkout/.cache/guest/accel"
    noted.parent.mkdir(parents=True)
    for text, state in (("kvm 1234\n", "ok"), ("tcg 1234\n", "off"), ("kvm 99\n", "unknown")):
        noted.write_text(text)
        assert found(guests.kvm, host).state == state


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open anything")
def test_kvm_of_others(tmp_path: Path) -> None:
    host = made_host(tmp_path, {"/dev/kvm": "", "/sys/class/misc/kvm/dev": "10:232\n"})
    host.path("/dev/kvm").chmod(0)
    assert "usermod" in found(guests.kvm, host).remedy


def test_libvirt(tmp_path: Path) -> None:
    assert found(guests.libvirt, made_host(tmp_path)).state == "off"
    host = made_host(tmp_path, programs={"/bin/virsh": "echo 11.3.0"})
    assert found(guests.libvirt, host).found == "libvirt 11.3.0"


def test_where_libvirt_puts_memory(tmp_path: Path) -> None:
    virsh = {"/bin/virsh": ""}
    assert found(guests.libvirt_user, made_host(tmp_path / "a")).state == "ok"
    check = found(guests.libvirt_user, made_host(tmp_path / "b", programs=virsh))
    assert check.state == "off"
    assert "libvirt-qemu" in check.found
    files = {
        "/etc/libvirt/qemu.conf": f'#user = "a"\nuser = "qemu"\nmemory_backing_dir = "{FOLDER}"\n',
        "/proc/self/mountinfo": f"{MOUNT}\n",
    }
    check = found(guests.libvirt_user, made_host(tmp_path / "c", files, programs=virsh))
    assert check.state == "limited"
    assert "let qemu in" in check.found
    assert "-o allow_other" in check.remedy
    files["/proc/self/mountinfo"] = f"{MOUNT},allow_other\n"
    check = found(guests.libvirt_user, made_host(tmp_path / "c", files, programs=virsh))
    assert check.state == "ok"


def test_apparmor(tmp_path: Path) -> None:
    assert found(guests.apparmor, made_host(tmp_path)).state == "ok"
    on = {"/sys/module/apparmor/parameters/enabled": "Y\n"}
    assert found(guests.apparmor, made_host(tmp_path, on)).state == "ok", "no libvirt"
    profiles = {**on, "/etc/apparmor.d/libvirt/TEMPLATE.qemu": ""}
    host = made_host(tmp_path, profiles, programs={"/sbin/libvirtd": ""})
    check = found(guests.apparmor, host)
    assert check.state == "limited"
    rules = "/etc/apparmor.d/local/abstractions/libvirt-qemu"
    assert rules in check.remedy
    made_host(tmp_path, {rules: "# none\n"})
    assert found(guests.apparmor, host).state == "limited"
    made_host(tmp_path, {rules: "/mnt/pages/** rwk,\n"})
    assert found(guests.apparmor, host).state == "ok"
    made_host(tmp_path, {rules: "", "/etc/libvirt/qemu.conf": 'security_driver = "none"\n'})
    assert found(guests.apparmor, host).state == "ok"


def test_selinux(tmp_path: Path) -> None:
    assert found(guests.selinux, made_host(tmp_path)).state == "ok"
    enforced = {"/sys/fs/selinux/enforce": "1"}
    assert found(guests.selinux, made_host(tmp_path, enforced)).state == "ok", "no libvirt"
    host = made_host(tmp_path, enforced, programs={"/sbin/virtqemud": ""})
    assert "virt_use_fusefs" in found(guests.selinux, host).remedy
    made_host(tmp_path, {"/sys/fs/selinux/booleans/virt_use_fusefs": "1 1"})
    assert found(guests.selinux, host).state == "ok"
