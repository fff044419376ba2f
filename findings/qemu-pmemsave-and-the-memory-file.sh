#!/usr/bin/env bash
# Two images of one stopped guest's memory differ in 32 pages: pmemsave's and its memory file.
#
# Versions: QEMU 7.2.22
# Expected: with memory-backend-file,share=on the file is the guest's memory, byte for byte, and
#   pmemsave of the same range while the guest is stopped gives the same bytes.
# Behaviour: pmemsave reads what the processor sees. On a pc machine with VGA that is the video
#   memory between 0xA0000 and 0xBFFFF; the file has the RAM behind that window, which nobody sees
#   (zeros, mostly). Without VGA (-vga none) the two are the same. A digest or a page count of one
#   does not tell that of the other, and a comparison of backups made in two ways finds a difference
#   in guests that did nothing.
# Output:
#   -vga std: pages that differ: 32, from 0xa0000 to 0xbf000
#   -vga none: pages that differ: 0
. "$(dirname "$0")/prelude"

need qemu-system-x86_64 qemu-system-x86
need python3 python3

compared() { # VGA: what differs between the two images of a guest that is still in its firmware
    rm -f memory saved
    PYTHONPATH=$findings python3 - "$1" <<'PYTHON'
import sys
import time

from qemu_monitor import Guest

guest = Guest(
    *("-machine", "pc,memory-backend=memory", "-m", "32M", "-vga", sys.argv[1]),
    *("-object", "memory-backend-file,id=memory,size=32M,mem-path=memory,share=on"),
)
time.sleep(3)  # the firmware shows itself on the screen
guest.ask("stop")
guest.ask("pmemsave", val=0, size=32 << 20, filename="saved")
guest.quit()
with open("memory", "rb") as one, open("saved", "rb") as other:
    a, b = one.read(), other.read()
differ = [at for at in range(0, 32 << 20, 4096) if a[at : at + 4096] != b[at : at + 4096]]
print(f"{len(differ)}, from {min(differ):#x} to {max(differ):#x}" if differ else 0)
PYTHON
}

same "-vga std: pages that differ" "32, from 0xa0000 to 0xbf000" "$(compared std)"
same "-vga none: pages that differ" 0 "$(compared none)"
