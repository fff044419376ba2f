"""What the manual pages begin with: calls that do something useful, and what."""

from __future__ import annotations

from typing import NamedTuple


class Example(NamedTuple):
    """A call and what it does."""

    does: str
    call: str


OVERVIEW = (
    Example("Mount a store, and have a guest's memory in it", "difffs mount /srv/pages /mnt/pages"),
    Example("See what it saves", "difffs stats /mnt/pages"),
    Example("Swap to a store", "difffs swapon /srv/swap --size 4G"),
    Example("Keep a suspended guest, its pages shared with others",
            "difffs import /srv/images vm1.save"),
    Example("Get it back, byte for byte", "difffs export /srv/images vm1.save vm1.save"),
)  # fmt: skip

EXAMPLES: dict[str, tuple[Example, ...]] = {
    "mount": (
        Example("Mount a store; it is made if there is none", "difffs mount /srv/pages /mnt/pages"),
        Example("With other users let in, and a buffer of 64 MiB",
                "difffs mount /srv/pages /mnt/pages -o allow_other,buffer=64M"),
        Example("In the foreground, until Ctrl-C",
                "difffs mount /srv/pages /mnt/pages --foreground"),
        Example("As [mount guests] in /etc/difffs.conf says", "difffs mount --configured guests"),
    ),
    "umount": (
        Example("Write everything, unmount, and return when the store is closed",
                "difffs umount /mnt/pages"),
        Example("The mount of [mount guests] in /etc/difffs.conf",
                "difffs umount --configured guests"),
    ),
    "import": (
        Example("Store two images under their own names",
                "difffs import /srv/images vm1.mem vm2.mem"),
        Example("Store one under another", "difffs import /srv/images vm1.save --as monday.save"),
        Example("Store what another program writes",
                "ssh host cat vm1.mem | difffs import /srv/images - --as vm1.mem"),
    ),
    "export": (
        Example("Get an image back as it was",
                "difffs export /srv/images vm1.save restored.save"),
        Example("Get the memory of the guest alone",
                "difffs export /srv/images vm1.save vm1.mem --raw"),
        Example("Write to a device", "difffs export /srv/images disk.mem /dev/vg0/restored"),
    ),
    "ls": (
        Example("List a store that is not mounted, or a mount", "difffs ls /srv/images"),
        Example("For a program", "difffs ls --json /mnt/pages"),
    ),
    "rm": (
        Example("Remove two volumes", "difffs rm /srv/images vm1.mem vm2.mem"),
        Example("Remove a directory with all that it holds", "difffs rm -r /srv/images monday"),
    ),
    "mv": (
        Example("Rename a volume", "difffs mv /srv/images vm1.mem monday.mem"),
        Example("Replace another by it", "difffs mv --force /srv/images vm1.mem monday.mem"),
    ),
    "stats": (
        Example("Show what a store holds and saves", "difffs stats /mnt/pages"),
        Example("Every two seconds, with what has changed", "difffs stats /mnt/pages --watch 2"),
        Example("A line for each of several stores", "difffs stats /mnt/pages /srv/images"),
        Example("Two figures for a script",
                "difffs stats /mnt/pages --noheadings --bytes --output stored,factor"),
        Example("Metrics for node_exporter",
                "difffs stats /mnt/pages --prometheus"
                " /var/lib/prometheus/node-exporter/difffs.prom"),
    ),
    "refine": (
        Example("Pack what rests more densely", "difffs refine /srv/images"),
        Example("Images that are seldom read, in the night, on a mount",
                "difffs refine /mnt/images --tier rest --budget 4h"),
        Example("As [mount images] of the configuration says",
                "difffs refine --configured images"),
    ),
    "check": (
        Example("Verify everything", "difffs check /srv/images"),
        Example("Verify the structure only, which is quick",
                "difffs check /srv/images --no-payloads"),
    ),
    "upgrade": (
        Example("Convert a store that a former difffs made", "difffs upgrade /srv/images"),
    ),
    "swapon": (
        Example("Swap to a store, before any other swap area",
                "difffs swapon /srv/swap --size 8G --priority 100"),
        Example("As [swap main] in /etc/difffs.conf says", "difffs swapon --configured main"),
    ),
    "swapoff": (
        Example("Stop swapping to it", "difffs swapoff /srv/swap"),
    ),
    "run": (
        Example("Run a guest whose RAM is a file of a mount on what it really needs",
                "difffs run -- qemu-system-x86_64 -m 1G -object memory-backend-file,id=ram,size=1G,"
                "share=on,mem-path=/mnt/pages/vm1.mem -machine q35,memory-backend=ram"),
        Example("Keep half of its RAM resident, and write down what that saved",
                "difffs run --resident 50% --report saved.json -- ./start-guest"),
        Example("Mount a store for as long as the command runs",
                "difffs run --store /srv/pages -- sh -c './start-guest $DIFFFS_MOUNTPOINT/vm.mem'"),
    ),
    "config": (
        Example("Check all that is configured, and show it with the lines that say so",
                "difffs config"),
        Example("Check a file before it is put in place", "difffs config --config new.conf"),
        Example("What the units of one name do, for a program", "difffs config guests --json"),
    ),
    "doctor": (
        Example("Show what this host offers and lacks, with the remedies", "difffs doctor"),
        Example("Only what matters for swapping to a store, and for that one",
                "difffs doctor --for swap /srv/swap"),
    ),
    "study": (
        Example("A report on the images of a folder", "difffs study --report report images"),
        Example("Compare two recipes only, as JSON",
                "difffs study --recipes default,dense --json result.json vm1.mem vm2.mem"),
        Example("Have the work done by the workers of a Dask scheduler, to whom /net/study is the"
                " same folder",
                "difffs study --cluster tcp://head:8786 --cache /net/study --report report images"),
    ),
}  # fmt: skip
"""Those of each command."""

CONFIGURATION = (
    Example("A store for guests, mounted at boot on /run/difffs/guests", "[mount guests]"),
    Example(
        "Another, on a disk of its own",
        "[mount images]\nstore = /srv/images\nmountpoint = /mnt/images\nrecipe = dense\n"
        "options = buffer=64M,read_ahead=1M\nrefine_tier = rest\nrefine_budget = 4h",
    ),
    Example(
        "Swap of half the machine's memory, filled before other areas",
        "[swap main]\nstore = /srv/swap\nsize = 50%\npriority = 100",
    ),
    Example(
        "Check it, and start both now and at every boot",
        "difffs config\nsystemctl enable --now difffs@guests difffs-swap@main",
    ),
    Example(
        "Have what rests in a store packed more densely, every night",
        "systemctl enable --now difffs-refine@images.timer",
    ),
)
"""Those of difffs.conf(5)."""

STORE = (
    Example("Make one, by mounting it", "difffs mount /srv/pages /mnt/pages"),
    Example(
        "Copy one that is not mounted, holes as holes",
        "cp -a --sparse=always /srv/pages /backup/pages",
    ),
    Example("Verify the copy", "difffs check /backup/pages"),
)
"""Those of difffs-store(5)."""

MOUNT_HELPER = (
    Example(
        "Mount a store, as difffs mount does",
        "mount -t fuse.difffs /srv/pages /mnt/pages -o buffer=64M",
    ),
    Example(
        "At every boot, by a line of /etc/fstab",
        "/srv/pages  /mnt/pages  fuse.difffs  nofail,buffer=64M  0 0",
    ),
    Example(
        "When somebody first looks at it, by systemd",
        "/srv/pages  /mnt/pages  fuse.difffs  noauto,x-systemd.automount  0 0",
    ),
    Example("Make it read-only for now", "mount -o remount,ro /mnt/pages"),
    Example(
        "Have mount(8) find difffs wherever it is installed",
        "ln -s /usr/local/bin/difffs /sbin/mount.fuse.difffs",
    ),
)
"""Those of mount.difffs(8)."""
