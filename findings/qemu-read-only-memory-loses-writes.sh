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
    python3 - "$1" <<'PYTHON'
import json
import subprocess
import sys
import time

backend = f"memory-backend-file,id=memory,size=32M,mem-path=memory,{sys.argv[1]}"
with open("messages", "a") as messages:
    guest = subprocess.Popen(
        [
            "qemu-system-x86_64", "-machine", "pc,memory-backend=memory", "-m", "32M",
            "-object", backend, "-accel", "tcg,tb-size=32", "-display", "none", "-nodefaults",
            "-vga", "none", "-qmp", "stdio",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=messages,
        text=True,
    )


def ask(command, **arguments):
    guest.stdin.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
    guest.stdin.flush()
    for line in guest.stdout:
        answer = json.loads(line)
        if "error" in answer:
            sys.exit(f"{command}: {answer['error']['desc']}")
        if "return" in answer:
            return


guest.stdout.readline()  # the greeting
ask("qmp_capabilities")
time.sleep(3)
ask("stop")
ask("pmemsave", val=0, size=640 << 10, filename="saved")
ask("quit")
guest.wait(30)
with open("saved", "rb") as saved:
    pages = iter(lambda: saved.read(4096), b"")
    print(sum(any(page) for page in pages))
PYTHON
}

same "share=off" 3 "$(written share=off)"
same "share=off,readonly=on" 0 "$(written share=off,readonly=on)"
same "QEMU's messages" none "$(cat messages | sed '/^$/d' | grep . || echo none)"
