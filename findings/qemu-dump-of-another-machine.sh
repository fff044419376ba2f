#!/usr/bin/env bash
# A dump of a 64-bit guest's memory says that it is of a 32-bit machine, and that it has 4 GiB.
#
# Versions: QEMU 7.2.22
# Expected: dump-guest-memory of qemu-system-x86_64 writes an ELF core of machine 62 (x86-64), with
#   the guest's RAM as its memory: 32 MiB for a guest of 32 MiB.
# Behaviour: the machine is that of the mode the processor happens to be in. Before the guest has
#   switched to 64 bits, in firmware or a boot loader, a 64-bit core says machine 3 (80386). And the
#   firmware's flash right below 4 GiB is a segment like RAM, so that the highest physical address is
#   4 GiB - 1 however small the guest is. Who takes the machine for the word length, or the highest
#   address for the memory's size, is wrong.
# Output:
#   class of the file: 64 bits
#   machine: 3
#   highest address: 0x100000000
. "$(dirname "$0")/prelude"

need qemu-system-x86_64 qemu-system-x86
need python3 python3

PYTHONPATH=$findings python3 - <<'PYTHON'
from qemu_monitor import Guest

guest = Guest("-S", "-machine", "q35", "-m", "32M")
guest.ask("dump-guest-memory", paging=False, protocol="file:dump")
guest.quit()
PYTHON
cat >header.py <<'PYTHON'
import struct
import sys

with open("dump", "rb") as dump:
    head = dump.read(4096)
machine, = struct.unpack_from("<H", head, 18)
start, = struct.unpack_from("<Q", head, 32)
size, count = struct.unpack_from("<HH", head, 54)
segments = [struct.unpack_from("<IIQQQQ", head, start + size * i) for i in range(count)]
memory = [(each[4], each[5]) for each in segments if each[0] == 1]
print(
    {
        "class": {1: "32 bits", 2: "64 bits"}[head[4]],
        "machine": machine,
        "highest": hex(max(address + length for address, length in memory)),
    }[sys.argv[1]]
)
PYTHON
same "class of the file" "64 bits" "$(python3 header.py class)"
same "machine" 3 "$(python3 header.py machine)"
same "highest address" 0x100000000 "$(python3 header.py highest)"
