#!/usr/bin/env bash
# A Dask task that reads a mapped file ends its worker, and three more, when the file is large.
#
# Versions: dask and distributed 2026.8.0, psutil 7.2.2, Python 3.11, Linux 6.18.44
# Expected: pages of a file that is mapped read-only and shared are the page cache's: the kernel drops
#   them whenever memory is short, so that reading a file larger than --memory-limit is harmless, as it
#   is by read().
# Behaviour: the worker's resident set is what is compared with the limit, and mapped pages are in it.
#   At 95 % the nanny kills the worker, the scheduler gives the task to the next, and after four it
#   fails with KilledWorker. The same bytes by read() leave everybody alive.
# Output:
#   by read(): 0
#   mapped: KilledWorker after 4 workers
. "$(dirname "$0")/prelude"

packages dask==2026.8.0 distributed==2026.8.0

head -c 400M /dev/zero >file
cat >look.py <<'P'
import mmap, sys, time
from distributed import Client, KilledWorker, LocalCluster


def mapped(path):
    with open(path, "rb") as file:
        pages = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    found = sum(pages[at] for at in range(0, len(pages), 4096))
    time.sleep(5)  # memory is looked at now and then
    return found


def read(path):
    found = 0
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            found += sum(piece[::4096])
    time.sleep(5)
    return found


if __name__ == "__main__":
    cluster = LocalCluster(
        n_workers=1, threads_per_worker=1, memory_limit="300MB", dashboard_address="127.0.0.1:0"
    )
    with cluster, Client(cluster) as client:
        try:
            print(client.submit({"mapped": mapped, "read": read}[sys.argv[1]], "file").result())
        except KilledWorker as error:
            print("KilledWorker after", error.allowed_failures + 1, "workers")
P
same "by read()" "0" "$(venv/bin/python look.py read 2>/dev/null)"
same "mapped" "KilledWorker after 4 workers" "$(venv/bin/python look.py mapped 2>/dev/null)"
