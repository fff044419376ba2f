#!/usr/bin/env bash
# py-lmdb's errors do not say which error of the system they stand for, except in their text.
#
# Versions: lmdb 2.3.0 (LMDB 0.9.35), Python 3.11, Linux 6.18.44
# Expected: an error of a commit carries the number of what the system said (an attribute such as
#   errno or code, or an OSError as its cause), so that a full disk, a limit and a broken disk can be
#   told apart; or each has a class of its own.
# Behaviour: ENOSPC has a class (DiskError). All other numbers are the base class Error, with one
#   argument: a text that ends with strerror's words. There is no attribute, no cause and no
#   context. Whoever tells "try again" from "stop" must compare words.
# Output:
#   a file larger than the limit: Error: File too large
#   its arguments, without numbers: 1, 0
#   its cause and context: None None
#   a full file system: DiskError: No space left on device
. "$(dirname "$0")/prelude"

need_root
packages lmdb==2.3.0

cat >commit.py <<'P'
import resource, sys
import lmdb

environment = lmdb.open(sys.argv[1], map_size=1 << 24)
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
transaction = environment.begin(write=True)
for number in range(200):
    transaction.put(b"%d" % number, bytes(3000))
try:
    transaction.commit()
except lmdb.Error as error:
    numbers = [name for name in dir(error) if name in ("errno", "code", "number")]
    print(type(error).__name__ + ": " + str(error).rpartition(": ")[2])
    print(len(error.args), len(numbers), sep=", ")
    print(error.__cause__, error.__context__)
P
venv/bin/python commit.py limited 40960 >limited.out
same "a file larger than the limit" "Error: File too large" "$(sed -n 1p limited.out)"
same "its arguments, without numbers" "1, 0" "$(sed -n 2p limited.out)"
same "its cause and context" "None None" "$(sed -n 3p limited.out)"
mkdir full
mount -t tmpfs -o size=200k none full
same "a full file system" "DiskError: No space left on device" "$(venv/bin/python commit.py full | sed -n 1p)"
