#!/usr/bin/env bash
# `sync` and `sync -f` return 0, and a FUSE file system never hears that anything shall be durable.
#
# Versions: Linux 6.18.44, libfuse 3.14.0, mfusepy 3.1.1, coreutils 9.1
# Expected: syncfs(2) of a mount, or at least sync(2) of everything, reaches the file system as some
#   request to make durable what it has, as FSYNC does for one file. (The protocol has had SYNCFS
#   since Linux 5.14.)
# Behaviour: the kernel sends the dirty pages and times that it holds itself (WRITE, SETATTR) and
#   then reports success; an ordinary mount gets no SYNCFS. What its server has buffered stays where
#   it is. fsync of a file and of the mount's directory do arrive.
# Output:
#   callbacks to synchronise, after sync -f and sync: 0
#   after sync of the file: fsync /file
#   after sync of the directory: fsyncdir /
. "$(dirname "$0")/prelude"

need_root
packages mfusepy==3.1.1

mount_memory writeback
echo data >mount/file
sync -f mount
sync
same "callbacks to synchronise, after sync -f and sync" 0 "$(grep -c sync calls || true)"
sync mount/file
same "after sync of the file" "fsync /file" "$(grep sync calls)"
sync mount
same "after sync of the directory" "fsyncdir /" "$(grep sync calls | tail -n 1)"
unmount_memory
