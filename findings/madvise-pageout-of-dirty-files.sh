#!/usr/bin/env bash
# MADV_PAGEOUT on dirty pages of a shared file returns 0 and frees nothing, nor does the next call.
#
# Versions: Linux 6.18.44, ext4 (FUSE the same)
# Expected: madvise(2): "to free up memory occupied by these pages ... If a page is file-backed and
#   dirty, it will be written back to the backing storage." So it is written and freed; or at least
#   a second call frees what msync has cleaned meanwhile.
# Behaviour: the call takes the pages out of the page table, finds them dirty, and leaves them in
#   the page cache, unwritten. They are no longer mapped, so that the next call sees none, even
#   after msync. Only when they have been touched (mapped) again, clean, does a call free them.
#   posix_fadvise(POSIX_FADV_DONTNEED) after msync does so at once. Whoever wants a guest's cold
#   memory out of a MAP_SHARED file needs that, or a memory cgroup.
# Output:
#   pages in memory, dirty: 2048
#   after MADV_PAGEOUT: 2048
#   after msync and MADV_PAGEOUT: 2048
#   after touching and MADV_PAGEOUT: freed
#   written anew, after msync and POSIX_FADV_DONTNEED: 0
. "$(dirname "$0")/prelude"

need python3 python3
case $(stat -f -c %T .) in
    tmpfs | ramfs) missing "a disk's file system below ${TMPDIR:-/var/tmp} (set TMPDIR)" ;;
esac

cat >pageout.py <<'PYTHON'
import ctypes
import mmap
import os

PAGES, PAGE, MADV_PAGEOUT = 2048, 4096, 21
libc = ctypes.CDLL(None, use_errno=True)
libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
file = os.open("memory", os.O_RDWR | os.O_CREAT)
os.ftruncate(file, PAGES * PAGE)
memory = mmap.mmap(file, PAGES * PAGE)
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))


def dirty():
    for page in range(PAGES):
        memory[page * PAGE] = 1


def page_out():
    if libc.madvise(address, PAGES * PAGE, MADV_PAGEOUT) != 0:
        raise SystemExit(f"madvise: {os.strerror(ctypes.get_errno())}")


def resident():
    vector = (ctypes.c_ubyte * PAGES)()
    if libc.mincore(address, PAGES * PAGE, vector) != 0:
        raise SystemExit(f"mincore: {os.strerror(ctypes.get_errno())}")
    return sum(flags & 1 for flags in vector)


dirty()
print(resident())
page_out()
print(resident())
memory.flush()
page_out()
print(resident())
sum(memory[page * PAGE] for page in range(PAGES))
page_out()
print("freed" if resident() < PAGES // 10 else resident())
dirty()
memory.flush()
page_out()  # unmaps
os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
print(resident())
PYTHON
mapfile -t found < <(python3 pageout.py)
same "pages in memory, dirty" 2048 "${found[0]}"
same "after MADV_PAGEOUT" 2048 "${found[1]}"
same "after msync and MADV_PAGEOUT" 2048 "${found[2]}"
same "after touching and MADV_PAGEOUT" freed "${found[3]}"
same "written anew, after msync and POSIX_FADV_DONTNEED" 0 "${found[4]}"
