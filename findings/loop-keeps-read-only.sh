#!/usr/bin/env bash
# A loop device that was once set read-only is read-only for the next file that it is attached to.
#
# Versions: Linux 6.18.44, util-linux 2.38.1
# Expected: `blockdev --setro` is about what the device shows now. Detaching ends that; attaching
#   another file for writing makes a device that can be written, or fails.
# Behaviour: the flag outlives detach. losetup attaches the next file, asked for a device that can be
#   written and with status 0, and every write fails with EPERM. `losetup --find` takes the first
#   free device, whatever was done to it before. `blockdev --setrw` helps.
# Output:
#   second file attached for writing: exit 0
#   read-only: 1
#   writing: Operation not permitted
#   writing, after blockdev --setrw: exit 0
. "$(dirname "$0")/prelude"

need_root
need losetup mount
need python3 python3
[ -c /dev/loop-control ] || missing "loop devices (modprobe loop)"

# a device of its own, so that nobody else is handed the read-only one
control() { # 0x4C80: LOOP_CTL_ADD, 0x4C81: LOOP_CTL_REMOVE
    python3 -c 'import fcntl, sys
fcntl.ioctl(open("/dev/loop-control"), int(sys.argv[1], 16), int(sys.argv[2]))' "$1" "$2"
}
number=1000
while [ -e "/sys/block/loop$number" ]; do number=$((number + 1)); done
device=/dev/loop$number
control 0x4C80 "$number"
remove() {
    losetup --detach "$device" 2>/dev/null || true
    for _ in 1 2 3 4 5; do control 0x4C81 "$number" 2>/dev/null && break || sleep 0.2; done
    undo
}
trap remove EXIT
[ -b "$device" ] || missing "$device: devtmpfs does not make it here"

truncate -s 1M first second
losetup "$device" first
blockdev --setro "$device"
losetup --detach "$device"
while [ -e "/sys/block/loop$number/loop" ]; do sleep 0.1; done

status=0
losetup "$device" second || status=$?
same "second file attached for writing" "exit 0" "exit $status"
same "read-only" 1 "$(blockdev --getro "$device")"
written=$(LC_ALL=C dd if=/dev/zero of="$device" bs=4096 count=1 2>&1 | head -n 1) || true
same "writing" "Operation not permitted" "${written##*: }"
blockdev --setrw "$device"
status=0
dd if=/dev/zero of="$device" bs=4096 count=1 status=none || status=$?
same "writing, after blockdev --setrw" "exit 0" "exit $status"
