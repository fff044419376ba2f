from collections.abc import Callable

from difffs.store.inode import Inode

def install(
    short_way: Callable[[Inode, int, int, int], bool],
    inodes: dict[int, Inode],
    long_way: Callable[[bytes | None, int, int, int, int], int],
    failure: Callable[[BaseException], int],
    position: int,
) -> int: ...
