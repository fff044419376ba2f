#!/usr/bin/env bash
# libzstd with one worker thread makes other frames than with none, and the tool works with one.
#
# Versions: zstandard 0.25.0 (libzstd 1.5.7)
# Expected: the same version, level and input give the same frame: libzstd is deterministic. The
#   number of worker threads is about time, and with one there is nothing to share out.
# Behaviour: with a worker, be it one, the input is cut into jobs, each compressed with the end of the
#   one before as its history only; what the match finder has seen otherwise is gone. The result is
#   another frame, a little larger. The zstd tool always compresses in a worker of its own, also with
#   -T1 (only --single-thread does not), so that the bytes of `zstd -c` are got from the library with
#   one worker, and not with none. Who compares or rebuilds compressed memory images has to know.
# Output (24 MiB of synthetic pages, level 3):
#   no worker and one worker: other bytes
#   one worker, twice: the same bytes
#   one worker and four: the same bytes
#   content of each: the same
. "$(dirname "$0")/prelude"

packages zstandard==0.25.0
cat >workers.py <<'PYTHON'
import random
import sys

import zstandard

random = random.Random(1)
WORDS = [random.randbytes(random.randrange(3, 40)) for _ in range(4000)]
CONTENT = b"".join(random.choice(WORDS) for _ in range(1_200_000))[: 24 << 20]


def frame(workers):
    parameters = zstandard.ZstdCompressionParameters.from_level(3, threads=workers)
    encoder = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    parts = [encoder.compress(CONTENT[at : at + 131072]) for at in range(0, len(CONTENT), 131072)]
    return b"".join(parts) + encoder.flush()


def content(made):
    decoder = zstandard.ZstdDecompressor().decompressobj()
    return decoder.decompress(made)


none, one, again, four = frame(0), frame(1), frame(1), frame(4)
told = {
    "none": "the same bytes" if none == one else "other bytes",
    "twice": "the same bytes" if one == again else "other bytes",
    "four": "the same bytes" if one == four else "other bytes",
    "content": "the same" if content(none) == content(one) == CONTENT else "another",
}
print(told[sys.argv[1]])
PYTHON
same "no worker and one worker" "other bytes" "$(venv/bin/python workers.py none)"
same "one worker, twice" "the same bytes" "$(venv/bin/python workers.py twice)"
same "one worker and four" "the same bytes" "$(venv/bin/python workers.py four)"
same "content of each" "the same" "$(venv/bin/python workers.py content)"
