"""Standard descriptors that are closed at the start: nothing of ours lands there."""

import ast
import os
import subprocess
import sys

import pytest

REPORT = """
import os, sys
from difffs.standard_streams import ensure_standard_streams
ensure_standard_streams()
ensure_standard_streams()
def attempt(work):
    try:
        return work()
    except OSError as error:
        return error.errno
found = [os.readlink(f"/proc/self/fd/{number}") for number in range(3)]
found += [attempt(lambda: os.read(0, 1)), attempt(lambda: os.write(1, b"x"))]
found += [attempt(lambda: os.write(2, b"x"))]
found += [stream is None for stream in (sys.stdin, sys.stdout, sys.stderr)]
found += [os.get_inheritable(number) for number in range(3)]
os.write(int(sys.argv[1]), repr(found).encode())
"""


@pytest.mark.parametrize("closed", [(), (0,), (1,), (2,), (0, 1), (0, 1, 2)])
def test_closed_descriptors_are_opened_and_fail_honestly(closed: tuple[int, ...]) -> None:
    reader, writer = os.pipe()
    redirections = " ".join(f"{number}>&-" for number in closed)
    subprocess.run(
        ["bash", "-c", f'exec "$0" -c "$1" {writer} {redirections}', sys.executable, REPORT],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=[writer],
        check=True,
    )
    os.close(writer)
    with open(reader, "rb") as stream:
        found = ast.literal_eval(stream.read().decode())
    assert found[:3] == [os.devnull] * 3
    assert found[3:6] == [9 if 0 in closed else b"", 9 if 1 in closed else 1, 1]
    assert found[6:9] == [False] * 3
    assert found[9:] == [True] * 3
