#!/usr/bin/env bash
# A FUSE server that stays in the foreground finds itself in the root directory all the same.
#
# Versions: libfuse 3.14.0, mfusepy 3.1.1, Linux 6.18.44
# Expected: becoming a daemon changes the current directory, as daemon(3) does; with foreground=True
#   (libfuse's -f) nothing of that happens, and relative paths go on working.
# Behaviour: libfuse changes to / in both cases, between the call and the first callback. A relative
#   path that worked before mounting names something else in every callback, without any message.
# Output:
#   current directory before: the folder
#   current directory in a callback: /
#   a relative path in a callback: gone
. "$(dirname "$0")/prelude"

packages mfusepy==3.1.1
[ -c /dev/fuse ] || missing "/dev/fuse"
need_root
FUSE_LIBRARY_PATH=$(ldconfig -p | awk '/libfuse3\.so\.[0-9]+ / { print $NF; exit }')
[ -n "$FUSE_LIBRARY_PATH" ] || missing "libfuse3 (Debian: apt-get install fuse3)"
export FUSE_LIBRARY_PATH

cat >server.py <<'P'
import os, stat
import mfusepy


class Server(mfusepy.Operations):
    def getattr(self, path, fh=None):
        with open(os.environ["TOLD"], "w") as told:
            print(os.getcwd(), file=told)
            print("there" if os.path.exists("beside") else "gone", file=told)
        return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}


print("the folder" if os.path.exists("beside") else os.getcwd(), flush=True)
mfusepy.FUSE(Server(), os.path.abspath("mount"), foreground=True, nothreads=True)
P
mkdir mount
touch beside
TOLD=$work/told venv/bin/python server.py >before 2>server.log &
server=$!
until mountpoint --quiet mount; do
    kill -0 "$server" 2>/dev/null || missing "a mount: $(tail -n 1 server.log)"
    sleep 0.05
done
stat mount >/dev/null
same "current directory before" "the folder" "$(cat before)"
same "current directory in a callback" "/" "$(sed -n 1p told)"
same "a relative path in a callback" "gone" "$(sed -n 2p told)"
umount mount
wait "$server"
