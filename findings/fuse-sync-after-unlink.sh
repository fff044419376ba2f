#!/usr/bin/env bash
# A file was written and removed; `sync -f` of the file system then fails, once.
#
# Versions: Linux 6.18.44, libfuse 3.14.0, mfusepy 3.1.1, coreutils 9.1
# Expected: writing a file, closing it and removing it are all answered without an error, so nothing
#   is left that `sync -f` (syncfs) could fail for.
# Behaviour: with FUSE_CAP_WRITEBACK_CACHE the kernel keeps the times of regular files. UNLINK makes
#   the inode's ctime dirty, and the kernel sends it as SETATTR when it lets the inode go: after
#   UNLINK, without a file handle. libfuse's high-level interface has forgotten the name by then and
#   answers ESTALE, without asking any callback. The kernel remembers the failure for the whole
#   mount, and the next syncfs of anybody returns it; the one after that is fine. A
#   file that another one is renamed over does the same. Neither hard_remove nor nullpath_ok nor
#   attr_timeout=0 changes it. Without write-back cache it does not happen, nor with a file that is
#   still open when it is removed: libfuse gives that another name.
# Output:
#   with write-back cache, first sync: exit 1, Stale file handle
#   with write-back cache, second sync: exit 0
#   with write-back cache, callbacks behind unlink: none
#   without write-back cache, first sync: exit 0
. "$(dirname "$0")/prelude"

need_root
packages mfusepy==3.1.1

said() { # exit status of sync -f, and its complaint
    local status=0 text
    text=$(LC_ALL=C sync -f mount 2>&1) || status=$?
    echo "exit $status${text:+, ${text##*: }}"
}

mount_memory writeback
head -c 8192 /dev/zero >mount/file
rm mount/file
same "with write-back cache, first sync" "exit 1, Stale file handle" "$(said)"
same "with write-back cache, second sync" "exit 0" "$(said)"
behind=$(sed '1,/^unlink/d' calls)
same "with write-back cache, callbacks behind unlink" none "${behind:-none}"
unmount_memory

mount_memory
head -c 8192 /dev/zero >mount/file
rm mount/file
same "without write-back cache, first sync" "exit 0" "$(said)"
unmount_memory
