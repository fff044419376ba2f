"""Indexes texts in memory, over and over: index.py FOLDER MIB SEED COUNTER."""

import collections
import json
import random
import re
import sys
from pathlib import Path

folder, mebibytes, seed, counter = sys.argv[1:]
random.seed(int(seed))
files = sorted(Path(folder).iterdir())
rounds = 0
places = collections.defaultdict(list)
while True:
    read = 0
    if rounds % 3 == 0:
        places.clear()
    random.shuffle(files)
    for number, path in enumerate(files):
        text = path.read_text(errors="replace")
        for match in re.finditer(r"[A-Za-z]{4,}", text):
            places[match.group().lower()].append((number, match.start()))
        read += len(text)
        # each place takes some 150 bytes, and a word comes every ten
        if read * 10 > int(mebibytes) << 20:
            break
    common = sorted(places, key=lambda word: -len(places[word]))[:500]
    answer = json.dumps({word: places[word][:50] for word in common})
    rounds += 1
    Path(counter).write_text(f"{rounds} {len(places)} {len(answer)}\n")
