#!/usr/bin/env bash
# `tar --sparse` archives a file full of data as one hole, and exits with 0.
#
# Versions: GNU tar 1.34, Linux 6.18.44, libfuse 3.14.0, mfusepy 3.1.1
# Expected: tar looks for holes with SEEK_DATA and SEEK_HOLE, or by reading; that a file system does
#   not tell how many blocks a file takes costs space at worst.
# Behaviour: with --sparse a file whose st_blocks is 0 is not read at all: tar takes it for nothing but
#   a hole of its st_size. A file system that leaves st_blocks out (0 is the default of FUSE
#   bindings) or tells it late loses its content in such an archive. cat, cp and tar without
#   --sparse read everything.
# Output:
#   bytes of data in the file: 588895
#   tar without --sparse: same
#   tar --sparse: exit 0
#   tar --sparse: times that it read the file: 0
#   tar --sparse: bytes that are not zero: 0
. "$(dirname "$0")/prelude"

need_root
need tar tar
packages mfusepy==3.1.1

mount_memory
seq 100000 >mount/file
same "bytes of data in the file" 588895 "$(tr -d '\0' <mount/file | wc -c)"
tar -C mount -cf plain.tar file
same "tar without --sparse" same "$(tar -xOf plain.tar | cmp - mount/file && echo same)"
status=0
: >calls
tar -C mount --sparse -cf sparse.tar file || status=$?
same "tar --sparse" "exit 0" "exit $status"
same "tar --sparse: times that it read the file" 0 "$(grep -c read calls || true)"
mkdir out
tar -C out -xf sparse.tar
same "tar --sparse: bytes that are not zero" 0 "$(tr -d '\0' <out/file | wc -c)"
unmount_memory
