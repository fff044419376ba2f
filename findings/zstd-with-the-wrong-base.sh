#!/usr/bin/env bash
# A zstd frame that was made against one page decodes against any other: to garbage, without error.
#
# Versions: zstandard 0.25.0 (libzstd 1.5.7)
# Expected: a delta knows its base. A frame carries a dictionary id, and decoding with another
#   dictionary fails ("Dictionary mismatch"), as it does for trained ones.
# Behaviour: raw content (a dictionary of DICT_TYPE_RAWCONTENT, ZSTD_CCtx_refPrefix, `zstd
#   --patch-from`) has the id 0, which means "any". With another page of the same length every match
#   copies other bytes, all lengths are right, and decoding ends well. Only a content checksum
#   tells, and python-zstandard leaves that out unless write_checksum is set (the zstd tool has it
#   on). Without any base it is an error, because the matches reach before the beginning.
# Output (of 500 pages, each with some bytes changed against its base):
#   dictionary id in the frame: 0
#   with another page as base: 0 right, 500 wrong, 0 errors
#   with no base: 0 right, 0 wrong, 500 errors
#   with a checksum, another page as base: 0 right, 0 wrong, 500 errors
. "$(dirname "$0")/prelude"

packages zstandard==0.25.0
cat >wrong_base.py <<'PYTHON'
import random

import zstandard

random = random.Random(1)
WORDS = [b"page", b"base", b"guest", b"swap", b"extent"]


def page():
    return b" ".join(random.choice(WORDS) + b"%d" % random.randrange(99) for _ in range(700))[:4096]


def raw(content):
    return zstandard.ZstdCompressionDict(content, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


def encode(target, base, **options):
    return zstandard.ZstdCompressor(level=1, dict_data=raw(base), **options).compress(target)


def outcome(frame, base, target):
    try:
        decoder = zstandard.ZstdDecompressor(dict_data=raw(base) if base else None)
        return "right" if decoder.decompress(frame) == target else "wrong"
    except zstandard.ZstdError:
        return "errors"


def counted(outcomes):
    return ", ".join(f"{outcomes.count(kind)} {kind}" for kind in ("right", "wrong", "errors"))


another, none, checked = [], [], []
for _ in range(500):
    base, other = page(), page()
    changed = bytearray(base)
    for _ in range(20):
        changed[random.randrange(len(changed))] = random.randrange(256)
    target = bytes(changed)
    frame = encode(target, base)
    assert outcome(frame, base, target) == "right"
    another.append(outcome(frame, other, target))
    none.append(outcome(frame, None, target))
    checked.append(outcome(encode(target, base, write_checksum=True), other, target))
print(zstandard.get_frame_parameters(frame).dict_id)
print(*map(counted, (another, none, checked)), sep="\n")
PYTHON
mapfile -t found < <(venv/bin/python wrong_base.py)
same "dictionary id in the frame" 0 "${found[0]}"
same "with another page as base" "0 right, 500 wrong, 0 errors" "${found[1]}"
same "with no base" "0 right, 0 wrong, 500 errors" "${found[2]}"
same "with a checksum, another page as base" "0 right, 0 wrong, 500 errors" "${found[3]}"
