#!/usr/bin/env bash
# A guest whose memory file is read-only starts, and what it writes is gone without a word.
#
# Versions: QEMU 7.2.22
# Expected: memory-backend-file,share=off,readonly=on is a private mapping of a file that is only
#   read: what the guest writes is its own, copied on write, so that many guests can start from one
#   image. Or else QEMU refuses it as the RAM of a machine, which has to be written.
# Behaviour: the backend becomes ROM. QEMU starts without a warning, the guest runs, and every page
#   that it has not found in the file reads as the file has it for ever: the firmware's own variables
#   and tables are zeros. (QEMU 8.2 and later have rom=off, with which it is copied on write.) A
#   program that starts clones of an image has to give rom=off, or a copy.
# Output (pages below 640 KiB that are not zero, of a file of zeros after three seconds):
#   share=off: 3
#   share=off,readonly=on: 0
#   QEMU's messages: none
. "$(dirname "$0")/prelude"

need qemu-system-x86_64 qemu-system-x86
need python3 python3

written() { # OPTIONS of the backend: pages that hold something when the firmware has run
    rm -f memory saved
    truncate -s 32M memory
    PYTHONPATH=$findings python3 - "$1" <<'PYTHON'
import sys
import time

from qemu_monitor import Guest

backend = f"memory-backend-file,id=memory,size=32M,mem-path=memory,{sys.argv[1]}"
options = ["-machine", "pc,memory-backend=memory", "-m", "32M", "-object", backend, "-vga", "none"]
with open("messages", "a") as messages:
    guest = Guest(*options, messages=messages)
time.sleep(3)
guest.ask("stop")
guest.ask("pmemsave", val=0, size=640 << 10, filename="saved")
guest.quit()
with open("saved", "rb") as saved:
    pages = iter(lambda: saved.read(4096), b"")
    print(sum(any(page) for page in pages))
PYTHON
}

same "share=off" 3 "$(written share=off)"
same "share=off,readonly=on" 0 "$(written share=off,readonly=on)"
same "QEMU's messages" none "$(cat messages | sed '/^$/d' | grep . || echo none)"
