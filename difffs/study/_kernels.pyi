"""Types of the study's native kernels (difffs/study/_kernels.pyx)."""

from array import array
from mmap import mmap

Bytes = bytes | bytearray | memoryview | mmap

def transform(blocks: Bytes, block_bytes: int) -> tuple[bytes, array[int]]: ...
def inverse(transformed: Bytes, rows: array[int], block_bytes: int) -> bytes: ...
